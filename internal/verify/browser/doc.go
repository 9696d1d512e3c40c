// Package browser tests the page of package debugflight in Chromium, which it looks for
// under the names that it has in distributions. It also makes the pictures of the guide:
//
//	go test -run Pictures -write ../../../docs/guide
package browser
