package moved

import sf "golang.org/x/sync/singleflight" // want `can be replaced by`

func forget(group *sf.Group) { group.Forget("k") }
