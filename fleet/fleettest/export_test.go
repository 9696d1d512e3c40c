package fleettest

import "time"

// SetPatience sets how long an engine may take for anything.
func SetPatience(d time.Duration) { patience = d }
