package value

import "resenje.org/singleflight" // want `cannot be replaced by github\.com/seed342dcb2d/coalesce: Forget is a value in line 7$`

var group singleflight.Group[string, int]

var forget func(string) = group.Forget
