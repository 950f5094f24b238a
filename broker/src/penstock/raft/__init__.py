"""Raft as a pure state machine: who leads, what is committed, what to send; never a byte of an entry.

Problem: a shard's members must agree on one log while any minority of them is slow, gone or cut off. Idea: `core` takes
messages, ticks and reports of the disk, and answers with one `Ready` that says what to write, what to send at once,
what to send only when it is written, and what is committed. Entries are known as spans: from, to, and the epochs by
runs; their bytes pass through untouched, so a turn that appends hundreds of entries costs as much as one.

The rules are those of Diego Ongaro's thesis "Consensus: Bridging Theory and Practice" with the refinements that etcd's
raft made known (probe and replicate, check-quorum, storage that answers later); its transcripts are our oracle.
Thesis words and ours: a term is an `epoch`, a server is a `member` (a number; 0 is nobody), AppendEntries is `Append`.

Where we are stricter than etcd's raft, because our storage answers late and in parts: votes are asked for only when the
epoch is durable; a recovered commit index counts only with the epoch of its entry; a membership change is applied only
when its commit cannot be forgotten again, and while it is under way in a group of two nothing else is appended. What
we do not have: joint configurations, proposals and reads passed on by followers, reads that trust clocks.

Leaves to others: clock, chance, files, sockets, and what an entry means.
"""
