package natsfleet

import (
	"fmt"
	"net"

	"github.com/nats-io/nats.go"
)

// plain returns an error if others on the network can read what nc carries.
func plain(nc *nats.Conn) error {
	if _, err := nc.TLSConnectionState(); err == nil {
		return nil
	}
	return plainAddr(nc.ConnectedAddr())
}

func plainAddr(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil { // no address: a connection within the process
		return nil
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() {
		return fmt.Errorf("the connection to %s is not encrypted, and the records are not sealed", addr)
	}
	return nil
}
