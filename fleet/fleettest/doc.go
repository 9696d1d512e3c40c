// Package fleettest checks what others give to a [fleet.Group]: an engine, with [Engine],
// and a codec, with [Codec].
package fleettest
