package coalesce

// This file holds the only doubly linked list of the package: of callers, blocks,
// forgotten flights, edges and functions that wait for the end of a context.
// An element carries its own links, so that listing it allocates nothing, and removing
// it from anywhere in the list takes constant time. A removed element refers to no
// other, so what keeps it does not keep its former neighbors.

// links are part of an element and refer to its neighbors in a list. E is a pointer to
// an element. remove clears them.
type links[E any] struct{ prev, next E }

// self returns l. It makes a pointer to a type that embeds links a linked.
func (l *links[E]) self() *links[E] { return l }

// A linked is a pointer to an element of a list. self returns the links of the element.
type linked[E any] interface {
	comparable
	self() *links[E]
}

// A list is a doubly linked list. The zero list is empty. The lock that guards the list
// guards the links of its elements, too, and must be held for all its methods.
type list[E linked[E]] struct{ first, last E }

// push puts e, which must be in no list, at the end.
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

// remove takes out e, which must be in the list, and clears its links.
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
