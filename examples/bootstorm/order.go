package main

// commonOrder looks for one order of the numbers below n in which every list is
// increasing, and returns the place of each number in it. A number that a list has more
// than once counts where it is first. There is no such order if the lists contradict each
// other, even if only in a cycle of many.
func commonOrder(lists [][]int, n int) (place []int, ok bool) {
	after := make([][]int, n) // the numbers that come later in some list
	before := make([]int, n)  // how many links point here
	seenIn := make([]int, n)  // number of the last list that had it, plus one
	for l, list := range lists {
		last := -1
		for _, i := range list {
			if seenIn[i] == l+1 {
				continue
			}
			seenIn[i] = l + 1
			if last >= 0 {
				after[last] = append(after[last], i)
				before[i]++
			}
			last = i
		}
	}

	// Take any number without an untaken predecessor, until none is left.
	var ready []int
	for i := range n {
		if before[i] == 0 {
			ready = append(ready, i)
		}
	}
	place = make([]int, n)
	taken := 0
	for ; taken < len(ready); taken++ {
		i := ready[taken]
		place[i] = taken
		for _, j := range after[i] {
			if before[j]--; before[j] == 0 {
				ready = append(ready, j)
			}
		}
	}
	return place, taken == n
}
