package storm

import (
	"io"
	"log"
	"log/slog"
	"testing"
)

// SilenceLog discards the log of slog until the test is over: a panic that no blocking
// call receives is logged.
func SilenceLog(t testing.TB) {
	l, w, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() {
		slog.SetDefault(l)
		log.SetOutput(w)
		log.SetFlags(flags)
	})
}
