package hostagent

import (
	"context"
	"io/fs"
	"time"
)

// Source is where commits come from. It hands out only commits that passed
// every check it makes: reachable, intact, moving forward.
type Source interface {
	// Head is the newest commit that may be accepted after accepted ("" for
	// the first time). Its errors say what happened and what to do next; the
	// caller goes on with the last accepted commit.
	Head(ctx context.Context, accepted string) (Snapshot, error)
	// At is an older commit out of the local clone, without network.
	At(ctx context.Context, commit string) (Snapshot, error)
	// Accept makes commit the high-water mark, durable and apart from the
	// journal, so that a rebuilt journal does not forget it.
	Accept(ctx context.Context, commit string) error
	// Accepted is the high-water mark, or "".
	Accepted(ctx context.Context) (string, error)
}

// Snapshot is one commit of the config repository.
type Snapshot struct {
	Commit string
	Time   time.Time // the committer's
	FS     fs.FS     // verified git objects; nothing is ever checked out
	URL    string    // which of the mirrors served it; "" for the local clone
}
