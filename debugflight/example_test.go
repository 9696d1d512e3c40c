package debugflight_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/singleflight"
)

// The page of two groups, for those who may see it.
func Example() {
	var (
		pages    coalesce.Group[string, []byte]
		sessions singleflight.Group
		registry debugflight.Registry
	)
	for name, source := range map[string]debugflight.Source{
		"pages":    debugflight.Of(&pages, nil),
		"sessions": debugflight.Of(sessions.Coalesce(), nil),
	} {
		if _, err := registry.Add(name, source); err != nil {
			log.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/flights", adminOnly(&registry))
}

// adminOnly stands for the access control of the program.
func adminOnly(h http.Handler) http.Handler { return h }

// Keys with secrets are shown without them.
func ExampleOf() {
	type session struct{ User, Token string }
	var sessions coalesce.Group[session, int]
	var registry debugflight.Registry
	remove, err := registry.Add("sessions", debugflight.Of(&sessions, func(s session) string { return s.User }))
	if err != nil {
		log.Fatal(err)
	}
	defer remove()
}

// The same as JSON, for programs.
func ExampleRegistry_ServeHTTP() {
	var pages coalesce.Group[string, []byte]
	var registry debugflight.Registry
	if _, err := registry.Add("pages", debugflight.Of(&pages, nil)); err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	registry.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/flights?format=json&min=1s", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 200 application/json
}

// A name can be taken once.
func ExampleRegistry_Add() {
	var pages coalesce.Group[string, []byte]
	var registry debugflight.Registry
	remove, err := registry.Add("pages", debugflight.Of(&pages, nil))
	fmt.Println(err)
	_, err = registry.Add("pages", debugflight.Of(&pages, nil))
	fmt.Println(err)
	remove()
	// Output:
	// <nil>
	// debugflight: the name "pages" is taken
}
