package coalesce

// This file holds the one doubly linked list of the package. Its elements carry their
// own links, so that to be listed allocates nothing and one can leave from anywhere in
// constant time. An element that has been removed refers to none of the others.

// links are embedded in an element of a list. E is a pointer to the element.
type links[E any] struct{ prev, next E }

func (l *links[E]) self() *links[E] { return l }

// A linked is a pointer to an element of a list.
type linked[E any] interface {
	comparable
	self() *links[E]
}

// A list is a doubly linked list. The lock that guards its elements must be held for
// all of it.
type list[E linked[E]] struct{ first, last E }

// push puts e, which is in no list, at the end.
func (l *list[E]) push(e E) {
	var none E
	e.self().prev = l.last
	if l.last == none {
		l.first = e
	} else {
		l.last.self().next = e
	}
	l.last = e
}

// remove takes out e, which is in the list.
func (l *list[E]) remove(e E) {
	var none E
	in := e.self()
	if in.prev == none {
		l.first = in.next
	} else {
		in.prev.self().next = in.next
	}
	if in.next == none {
		l.last = in.prev
	} else {
		in.next.self().prev = in.prev
	}
	*in = links[E]{}
}
