// Package fleet coalesces calls across processes: many machines ask for the same thing at
// the same moment, one of them does the work, and all get its result.
//
//	thumbnails := fleet.Group[string, []byte]{Engine: engine, Name: "thumbnails"}
//	…
//	image, shared, err := thumbnails.DoContext(ctx, name, func(ctx context.Context) ([]byte, error) {
//		return render(ctx, name)
//	})
//
// The processes share an [Engine]: a stream of NATS JetStream (package natsfleet), a Redis
// server (package redisfleet), or memory within one process ([Memory]). There is no
// membership, no election and no protocol between the processes.
//
// A coalesce.Group alone turns the calls of N processes into N executions, one in each.
// This package removes the other N-1, for two writes to the engine for each execution. It
// is not for an fn that is cheaper than a few round trips.
//
// # Guarantees
//
//   - FG1: Without engine errors, leader deaths, or stalls beyond two thirds of a lease, all
//     calls whose acquiring swaps the engine orders within one flight cause one execution
//     and get the same bytes.
//   - FG2: The executions of a flight are 1 + takeovers + local runs, each told by Info and
//     Stats. A dead, stalled or overdue leader has exactly one successor per lease.
//   - FG3: No caller waits longer than 1.1 lease + Grace + round trips after the leader's
//     last sign of life, plus the successor's fn; with MaxAge, after that age. (A call that
//     had joined in the process where fn hangs waits for it, as in package coalesce.) ctx
//     always wins.
//   - FG4: A result is of an execution that ran when the call began or later, or had ended
//     at most the delivery before: a push, 50 ms or 1.25 heartbeats if that was lost, an
//     outage's length if cut off; plus Linger. For DoFresh it began later.
//   - FG5: A replaced leader cannot publish.
//   - FG6: There is at most one unexpired lease for a key: with NATS within its durability,
//     with Redis until a failover loses the write.
//   - FG7: Tokens rise for each key: with NATS always (its clock not set back between two
//     streams), with Redis barring a failover to an older clock.
//
// # Not promised
//
//   - That two fn never overlap. A lease is a promise between processes whose clocks run and
//     which reach the engine; one that is stopped, or cut off, does not know that another
//     has taken over. If overlap would do harm, give [Token] to the resource, and let that
//     refuse lower ones.
//   - That fn runs exactly once.
//   - That a result is durable.
//   - With OnOutage set to RunLocally, as it is by default: that there is one execution
//     while the engine does not answer. There is one in each process.
//   - That a cycle of calls across processes is found, as package coalesce finds one within
//     a process. MaxAge dissolves it.
//
// # What crosses to other processes
//
// Values, by the Codec. Errors, as a *[RemoteError] with their message; see [Sentinels] for
// errors that are compared. A panic, as the text of its value: the calls of the leader's
// process panic, and those of others get a RemoteError. A Goexit. The end of a context is
// no result: if all callers of a leader's process have left and CancelAbandoned is set, or
// its process shuts down, the lease is given up, and a call that waits elsewhere leads.
//
// # Cost
//
// An execution takes two writes to the engine, and one more for each third of a lease. A
// call that waits for another process takes a write that fails, a subscription and a read,
// and a second read if it waits for 50 ms. Calls that wait cost no processor time. In a
// process, calls for one key share all of that.
package fleet
