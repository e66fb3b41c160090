package gitsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// MirrorOptions say which repository to mirror, and what it may cost.
type MirrorOptions struct {
	URL string // as Options.URL
	Dir string // the bare mirror: a cache, made when first needed and made anew when damaged

	// Own is the source that this host follows. Its CA, SSHKey and KnownHosts
	// serve for the mirror too: they show nothing that a stranger could use.
	// Its Token goes along only where URL has the same scheme and host.
	Own Options

	Timeout   time.Duration // of one fetch as a whole; default 10m
	MaxPack   int64         // bytes of one fetched pack; default 2 GiB
	MaxObject int64         // bytes of one file, folder, commit or delta; default 128 MiB
}

// Mirror is a bare copy of a repository's branches and tags, from which single
// commits are read whole and proved. Unlike a Source it follows nothing and
// judges no history. Several may stand on one directory, of one process or more.
type Mirror struct {
	o      MirrorOptions
	via    *Source // carries credentials and limits; it has no clone
	remote remote
	clone  *clone
	fresh  bool // made anew by this Mirror
}

// OpenMirror prepares a mirror. It touches neither network nor disk.
func OpenMirror(o MirrorOptions) (*Mirror, error) {
	o.Timeout = cmp.Or(o.Timeout, 10*time.Minute)
	own := o.Own
	own.FetchTimeout, own.Timeout = o.Timeout, min(o.Timeout, 60*time.Second)
	own.MaxPack = cmp.Or(o.MaxPack, 2<<30)
	own.MaxObject = cmp.Or(o.MaxObject, 2*maxObject)
	if o.URL == "" || o.Dir == "" {
		return nil, errors.New("mirror: no url, or no directory")
	}
	m := &Mirror{o: o, via: &Source{o: own}}
	var err error
	if m.via.http, err = httpClient(own); err != nil {
		return nil, err
	}
	m.remote, err = newRemote(o.URL, m.via, false)
	return m, err
}

// Close ends all handles; a Snapshot's FS fails from then on.
func (m *Mirror) Close() error {
	m.via.http.CloseIdleConnections()
	if m.clone == nil || m.clone.objects == nil {
		return nil
	}
	return m.clone.objects.close()
}

// Commit is one commit with all its files, out of the mirror if it is there,
// which needs no network, and otherwise fetched. It is called once. Besides the
// errors of Source.Head, ErrUnknown says that no branch and no tag leads to it.
func (m *Mirror) Commit(ctx context.Context, commit string) (Snapshot, error) {
	h, err := parseHash(commit)
	if err != nil {
		return Snapshot{}, err
	}
	if err := os.MkdirAll(m.o.Dir, 0o700); err != nil {
		return Snapshot{}, err
	}
	unlock, err := (&clone{dir: m.o.Dir}).lock(ctx, m.o.Timeout)
	if err != nil {
		return Snapshot{}, err
	}
	defer unlock()
	head, err := m.commit(ctx, h)
	if errors.Is(err, ErrCorrupt) && !m.fresh {
		// It is a cache: what may be wrong in it costs a fetch.
		if err = m.reset(); err == nil {
			head, err = m.commit(ctx, h)
		}
	}
	if err != nil {
		return Snapshot{}, err
	}
	_ = os.Chtimes(m.o.Dir, time.Time{}, time.Now()) // says that it is in use
	return Snapshot{
		Commit: head.Hash, Time: head.Committer.Time, URL: m.remote.name,
		FS: &treeFS{from: (*mirrored)(m.clone), root: head.tree, time: head.Committer.Time, limit: m.via.o.MaxObject},
	}, nil
}

func (m *Mirror) commit(ctx context.Context, h plumbing.Hash) (Commit, error) {
	if err := m.open(); err != nil {
		return Commit{}, err
	}
	if !m.clone.objects.has(h) {
		if err := m.fetch(ctx, h); err != nil {
			return Commit{}, err
		}
	}
	if kind, _, err := m.clone.objects.stat(h); err == nil && kind != plumbing.CommitObject {
		return Commit{}, fail(ErrUnknown, "%s is the hash of a %s. Bump to the commit that it belongs to", h, kind)
	}
	return m.clone.verify(h)
}

// open opens what is there; what cannot be read is made anew.
func (m *Mirror) open() (err error) {
	if m.clone != nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(m.o.Dir, "objects")); errors.Is(err, fs.ErrNotExist) {
		return m.reset()
	}
	if m.clone, err = openClone(m.o.Dir, m.via.o.MaxObject); errors.Is(err, ErrCorrupt) {
		return m.reset()
	}
	return err
}

// reset empties the mirror, under its lock, which stays.
func (m *Mirror) reset() error {
	if m.clone != nil && m.clone.objects != nil {
		_ = m.clone.objects.close()
	}
	names, err := os.ReadDir(m.o.Dir)
	if err != nil {
		return err
	}
	for _, d := range names {
		if d.Name() != lockFile {
			if err := os.RemoveAll(filepath.Join(m.o.Dir, d.Name())); err != nil {
				return err
			}
		}
	}
	if err := initClone(m.o.Dir); err != nil {
		return err
	}
	m.clone, err = openClone(m.o.Dir, m.via.o.MaxObject)
	m.fresh = true
	return err
}

// fetch brings the commit into the mirror, or whatever branches and tags lead
// to where a server gives out nothing else.
func (m *Mirror) fetch(ctx context.Context, h plumbing.Hash) error {
	if err := m.clone.sweep(); err != nil {
		return err
	}
	err := m.fetchOnce(ctx, h)
	switch {
	case err == nil || typed(err):
	case diskTrouble(err):
		err = fail(ErrUnreachable, "%w. Make room on the disk of the state directory, or mend it", err)
	default:
		err = fail(ErrUnreachable, "%w. Check the URL, the network and the server", err)
	}
	if err != nil {
		return &remoteError{m.remote.name, err}
	}
	return m.clone.join(ctx, m.via.o.MaxPack)
}

func (m *Mirror) fetchOnce(ctx context.Context, h plumbing.Hash) error {
	ctx, dog, cancel := watch(ctx, m.via.o.Timeout, m.via.o.FetchTimeout)
	defer cancel()
	sess, err := m.remote.dial(ctx)
	if err != nil {
		return because(ctx, err)
	}
	defer sess.close()
	listed, err := sess.list("")
	if err != nil {
		return because(ctx, err)
	}
	wants := m.wants(listed, h)
	if len(wants) == 0 {
		return m.unknown(h)
	}
	dog.alive()
	err = m.take(ctx, sess, dog, listed, wants)
	if err != nil && strings.Contains(err.Error(), "not our ref") {
		return m.unknown(h)
	}
	if err != nil {
		return because(ctx, err)
	}
	if !m.clone.objects.has(h) {
		return m.unknown(h)
	}
	return nil
}

func (m *Mirror) unknown(h plumbing.Hash) error {
	return fail(ErrUnknown, "no branch and no tag there leads to commit %s. Push it to one, or bump to a commit that is pushed", h)
}

// wants is what to ask for: the ref that points to the commit, the commit
// itself where the server gives those out, or else every ref that is new to us.
func (m *Mirror) wants(listed advertised, h plumbing.Hash) []plumbing.Hash {
	var all []plumbing.Hash
	seen := map[plumbing.Hash]bool{}
	for _, t := range listed.tips {
		if t.hash == h || t.commit == h {
			return []plumbing.Hash{t.hash}
		}
		if !seen[t.hash] && !m.clone.objects.has(t.hash) {
			seen[t.hash] = true
			all = append(all, t.hash)
		}
	}
	if listed.any && listed.gives() {
		return []plumbing.Hash{h}
	}
	return all
}

// take gets a pack and makes it part of the mirror once all history in it is
// proved connected to what is there: what the mirror has, it has with all that
// lies behind it.
func (m *Mirror) take(ctx context.Context, sess session, dog *watchdog, listed advertised, wants []plumbing.Hash) error {
	c := m.clone
	haves, err := m.haves(ctx, listed)
	if err != nil {
		return err
	}
	stream, err := sess.pack(wants, haves, c.objects)
	if err != nil {
		return err
	}
	got, err := receive(ctx, c.objects, &fed{stream, dog}, m.via.o.MaxPack)
	if err != nil {
		return err
	}
	view := c.objects.with(got.pack)
	var heads []plumbing.Hash
	for _, w := range wants {
		if head, err := view.peel(w); err == nil {
			heads = append(heads, head)
		} else if !errors.Is(err, ErrUnknown) { // a tag of a file is nobody's release
			got.drop()
			return err
		}
	}
	err = view.walk(ctx, heads, func(k *Commit) (bool, bool, error) {
		return c.objects.has(plumbing.NewHash(k.Hash)), false, nil
	})
	if err != nil {
		got.drop()
		return fmt.Errorf("the history that was sent is not whole: %w. A shallow repository cannot be mirrored (git fetch --unshallow); otherwise run git fsck on the server", err)
	}
	if err := got.keep(c.objects); err != nil {
		got.drop()
		return err
	}
	if len(heads) == 0 {
		return nil
	}
	return c.setRef(refHead, heads[len(heads)-1].String())
}

// haves are commits that the server may know of us: what its refs point to, and
// what was asked for last.
func (m *Mirror) haves(ctx context.Context, listed advertised) ([]plumbing.Hash, error) {
	haves, err := m.clone.haves(ctx)
	for _, t := range listed.tips {
		if len(haves) >= 256 {
			break
		}
		at := t.hash
		if t.commit != plumbing.ZeroHash {
			at = t.commit
		}
		if m.clone.objects.has(at) {
			haves = append(haves, at)
		}
	}
	return haves, err
}

// mirrored reads a snapshot's objects, and remembers where one was damaged.
type mirrored clone

func (r *mirrored) note(err error) error {
	if errors.Is(err, ErrCorrupt) {
		(*clone)(r).mark(err)
	}
	return err
}

func (r *mirrored) tree(h plumbing.Hash) (tree, error) {
	t, err := r.objects.tree(&(*clone)(r).trees, h)
	return t, r.note(err)
}

func (r *mirrored) blob(h plumbing.Hash, limit int64) ([]byte, error) {
	data, err := r.objects.blob(h, limit)
	return data, r.note(err)
}

func (r *mirrored) size(h plumbing.Hash) (int64, error) {
	_, size, err := r.objects.stat(h)
	return size, r.note(err)
}
