package kit

// All matches every key.
func All[K comparable](K) bool { return true }

// IsKey returns a match for one key.
func IsKey(key string) func(string) bool { return func(k string) bool { return k == key } }

// Forgets are the forms of Forget, as functions that forget the flight of a key.
var Forgets = map[string]func(g *Group, key string) bool{
	"Forget":     (*Group).Forget,
	"ForgetFunc": func(g *Group, key string) bool { return g.ForgetFunc(IsKey(key)) == 1 },
	"ForgetFlight": func(g *Group, key string) bool {
		for f := range g.Flights() {
			if f.Key == key && g.ForgetFlight(f.ID) {
				return true // a flight that was queued behind it stays
			}
		}
		return false
	},
}
