package dot

import . "resenje.org/singleflight" // want `cannot be replaced by github\.com/seed342dcb2d/coalesce: it is imported with a dot$`

var group Group[string, int]
