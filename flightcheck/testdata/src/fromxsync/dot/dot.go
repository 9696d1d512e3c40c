package dot

import . "golang.org/x/sync/singleflight" // want `can be replaced by .*/coalesce/singleflight, where a panic or Goexit of DoChan's fn is a Result$`

var group Group

var result Result = <-group.DoChan("k", nil)
