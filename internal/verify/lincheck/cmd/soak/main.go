// Soak runs storms on groups for as long as the user wants: calls of all forms for few
// keys and many, fns that fail, panic and exit, contexts that end, Forgets, Shutdowns,
// with each of the group's features. Every history is checked, and after each storm no
// flight may be left, no goroutine, and in the long run the heap must not have grown.
//
//	go run ./cmd/soak -for 10m
//
// It prints its progress and, also after an interrupt, a summary. Its exit status is 1 if
// it has found a violation, 2 if a flag is wrong. A finding names the seed; the schedule
// is the machine's.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"time"
)

func main() {
	length := flag.Duration("for", time.Minute, "how long to soak")
	every := flag.Duration("every", 5*time.Second, "how often to say how far it is")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "the source of the random calls")
	flag.Parse()
	if err := check(flag.Args(), *length, *every); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	}
	// Panics that no blocking call receives are logged: there will be many.
	log.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))

	ctx, cancel := context.WithCancelCause(context.Background())
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	go func() {
		<-interrupts
		cancel(errInterrupted)
		signal.Stop(interrupts) // the next one ends it at once
	}()
	ctx, stop := context.WithTimeout(ctx, *length)
	defer stop()

	s := &soak{configurations: configurations(), out: os.Stderr, every: *every, settle: settleTime, seed: *seed}
	err := s.run(ctx)
	s.report()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// check returns an error for wrong arguments and flags.
func check(args []string, length, every time.Duration) error {
	const least = 100 * time.Millisecond
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case length <= 0:
		return fmt.Errorf("-for is %v (want a time)", length)
	case every < least:
		return fmt.Errorf("-every is %v (want at least %v)", every, least)
	}
	return nil
}
