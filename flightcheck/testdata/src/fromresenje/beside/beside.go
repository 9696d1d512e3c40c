package beside

import (
	"bytes"

	"resenje.org/singleflight" // want `cannot be replaced by github\.com/seed342dcb2d/coalesce: it is embedded beside bytes\.Buffer, which has Len, too$`
)

type pages struct {
	bytes.Buffer
	singleflight.Group[string, int]
}

func size(p *pages) int { return p.Len() }
