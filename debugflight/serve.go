package debugflight

import (
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// This file holds the handler.

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// maxForm bounds the bytes of the form that forgets a flight.
const maxForm = 64 << 10

// ServeHTTP answers GET and HEAD with the page, or with JSON, and changes nothing by that. It
// answers a POST of the page's form, if AllowForget is set, by forgetting a flight, and with 303
// and the address of the list. It takes the time that the parameter seconds asks for. All other
// answers are a sentence:
//
//	400  a parameter is unknown or wrong, or the request ends before its seconds are over
//	403  the form was sent by a page of another site
//	404  the flight with this id is over; a POST without AllowForget
//	405  the method is another one
//	409  the flight to forget is over, or was forgotten before
//	503  the request's context has ended before the answer was ready
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: with that, the Origin of a form's own site is null.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		r.serveReport(w, req)
	case http.MethodPost:
		r.serveForget(w, req)
	default:
		h.Set("Allow", "GET, HEAD, POST")
		http.Error(w, "debugflight: the method is "+quote(req.Method)+" (want GET, HEAD or POST)", http.StatusMethodNotAllowed)
	}
}

// serveReport answers a GET or HEAD.
func (r *Registry) serveReport(w http.ResponseWriter, req *http.Request) {
	q, err := parse(req)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	sources := r.all()
	if q.group != "" {
		s, err := r.find(q.group)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		sources = []registered{s}
	}
	most := r.MaxRows
	if most <= 0 {
		most = 1000
	}
	report, err := q.report(req.Context(), sources, most)
	switch {
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, fmt.Errorf("the request ended before the answer was ready: %w", err))
		return
	case q.id != 0 && report.Found == 0:
		refuse(w, http.StatusNotFound, errors.New("this flight is no longer there: it has finished"))
		return
	case q.json:
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "\t")
		_ = e.Encode(report) // the client may have gone
		return
	}
	nonce := rand.Text()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	_ = pageTemplate.Execute(w, newPage(r, q, report, nonce)) // likewise
}

// serveForget answers a POST.
func (r *Registry) serveForget(w http.ResponseWriter, req *http.Request) {
	if !r.AllowForget {
		refuse(w, http.StatusNotFound, errors.New("nothing can be forgotten here: AllowForget is not set"))
		return
	}
	if err := r.protection.Check(req); err != nil {
		refuse(w, http.StatusForbidden, errors.New("the request comes from a page of another site"))
		return
	}
	back, err := parse(req)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	id, source, status, err := r.toForget(w, req)
	if err != nil {
		refuse(w, status, err)
		return
	}
	if !source.ForgetFlight(id) {
		refuse(w, http.StatusConflict, errors.New("this flight is no longer there: it has finished, or was forgotten before"))
		return
	}
	back.id, back.seconds = 0, 0               // the list, at once
	w.Header().Set("Location", back.address()) // relative, as the path may be another one in front of a proxy
	w.WriteHeader(http.StatusSeeOther)
}

// toForget returns the flight that the form of a request names, and its source.
func (r *Registry) toForget(w http.ResponseWriter, req *http.Request) (id uint64, s Source, status int, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxForm))
	if err != nil {
		return 0, nil, http.StatusBadRequest, fmt.Errorf("the form cannot be read: %w", err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return 0, nil, http.StatusBadRequest, fmt.Errorf("the form cannot be read: %w", err)
	}
	id, err = strconv.ParseUint(form.Get("forget"), 10, 64)
	if err != nil || id == 0 {
		return 0, nil, http.StatusBadRequest, fmt.Errorf("forget is %s (want the ID of a flight, a number from 1)", quote(form.Get("forget")))
	}
	found, err := r.find(form.Get("of"))
	if err != nil {
		return 0, nil, http.StatusBadRequest, err
	}
	return id, found.source, 0, nil
}

// refuse answers a request with an error.
func refuse(w http.ResponseWriter, status int, err error) {
	http.Error(w, "debugflight: "+err.Error(), status)
}
