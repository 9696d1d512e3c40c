package moved

func last(c *cache) { c.group.Forget("last") }
