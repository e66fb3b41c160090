package trust

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
)

// learnt is a past with a release that was left, named twice, and promoted, and
// with a service that had another name.
func learnt(t testing.TB) (*repo, *Past, []string) {
	r := newRepo(t)
	at := []string{world(r)}
	for _, v := range []string{"1.2", "1.3", "1.2"} {
		at = append(at, r.on(at[len(at)-1], files{"staging/web.hcl": service("web", v), "staging/moved.hcl": "moved {\n  from = \"site\"\n  to   = \"web\"\n}\n"}))
	}
	p := &Past{}
	if err := p.Learn(t.Context(), r, at[len(at)-1]); err != nil {
		t.Fatal(err)
	}
	return r, p, at
}

// sorted is a past without the orders that mean nothing.
func sorted(p *Past) Past {
	q := *p
	for _, m := range append(q.names.lists(), &q.names.words) {
		*m = maps.Clone(*m)
		for k, list := range *m {
			(*m)[k] = slices.Sorted(slices.Values(list))
		}
	}
	return q
}

func TestAPastIsKept(t *testing.T) {
	r, p, at := learnt(t)
	data, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var q Past
	if err := q.UnmarshalBinary(data); err != nil || q.Tip() != at[len(at)-1] || !reflect.DeepEqual(sorted(p), sorted(&q)) {
		t.Fatalf("%v\n%+v\n%+v", err, *p, q)
	}
	if again, err := q.MarshalBinary(); err != nil || !slices.Equal(again, data) {
		t.Fatalf("other bytes: %v", err)
	}

	// It goes on from there, as one that was never written does.
	next := r.on(at[len(at)-1], files{"staging/web.hcl": service("web", "1.4")})
	for _, past := range []*Past{p, &q} {
		if err := past.Learn(t.Context(), r, next); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(sorted(p), sorted(&q)) {
		t.Fatalf("%+v\n%+v", *p, q)
	}
	var zero, none Past
	if data, err := zero.MarshalBinary(); err != nil || none.UnmarshalBinary(data) != nil || none.Tip() != "" {
		t.Errorf("nothing known: %v %+v", err, none)
	}
}

// A past of another history, or of a branch that was given up, is not believed.
func TestAPastOfAnotherHistory(t *testing.T) {
	r, ahead, at := learnt(t)
	stranger := newRepo(t)
	stranger.n, stranger.clock = 1000, stranger.clock.Add(1)
	other := stranger.on("", files{"staging/web.hcl": service("web", "9.9")})
	p := &Past{}
	if err := p.Learn(t.Context(), stranger, other); err != nil {
		t.Fatal(err)
	}
	if err := p.Learn(t.Context(), r, at[1]); err != nil {
		t.Fatal(err)
	}
	fresh := &Past{}
	if err := fresh.Learn(t.Context(), r, at[1]); err != nil || !reflect.DeepEqual(sorted(p), sorted(fresh)) {
		t.Fatalf("%v\n%+v\n%+v", err, p, fresh)
	}
	if err := ahead.Learn(t.Context(), r, at[1]); err != nil || !reflect.DeepEqual(sorted(ahead), sorted(fresh)) {
		t.Fatalf("it knows what came later: %v\n%+v", err, ahead)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Learn(ctx, r, at[2]); !errors.Is(err, context.Canceled) || p.Tip() != at[1] {
		t.Errorf("a learning that was cut short: %v, tip %s", err, p.Tip())
	}
}

func TestADamagedPastIsRefused(t *testing.T) {
	_, p, _ := learnt(t)
	data, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var q Past
	for i := range data {
		bad := slices.Clone(data)
		bad[i] ^= 1
		if q.UnmarshalBinary(bad) == nil || q.UnmarshalBinary(data[:i]) == nil {
			t.Fatalf("byte %d changed or cut off: it is believed", i)
		}
	}
	if q.UnmarshalBinary(append(data, 0)) == nil || q.Tip() != "" {
		t.Fatal("a byte more is believed")
	}
}

// FuzzPast: whatever the bytes are, with the right sum or not, nothing ends the
// agent, and what is read is written as it was.
func FuzzPast(f *testing.F) {
	_, p, _ := learnt(f)
	data, err := p.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	head := len(pastMagic) + 32
	f.Add(data[head:])
	f.Add([]byte{0})
	f.Add([]byte{255, 255, 255, 255, 15, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		var q Past
		if q.UnmarshalBinary(sealed(body)) != nil {
			return
		}
		again, err := q.MarshalBinary()
		var r Past
		if err != nil || r.UnmarshalBinary(again) != nil || !reflect.DeepEqual(q, r) {
			t.Fatalf("%v\n%+v\n%+v", err, q, r)
		}
	})
}

// cutOff is a history whose reader is told to stop after so many trees.
type cutOff struct {
	*repo
	left int
	stop context.CancelFunc
}

func (c *cutOff) Changed(ctx context.Context, old, new string) ([]Change, error) {
	if c.left--; c.left < 0 {
		c.stop()
		return nil, ctx.Err()
	}
	return c.repo.Changed(ctx, old, new)
}

// A host that is too slow to learn all at once gets there all the same.
func TestAPastIsLearntInStrides(t *testing.T) {
	r := newRepo(t)
	head := world(r)
	for n := range 2*stride + 10 {
		head = r.on(head, files{"staging/web.hcl": service("web", fmt.Sprintf("1.%d", n))})
	}
	p, tips := &Past{}, []string{}
	for try := 1; p.Tip() != head; try++ {
		ctx, stop := context.WithCancel(t.Context())
		err := p.Learn(ctx, &cutOff{r, stride + stride/2, stop}, head)
		stop()
		if try > 3 || (err == nil) != (p.Tip() == head) {
			t.Fatalf("try %d: %v, it knows what is behind %v", try, err, tips)
		}
		tips = append(tips, p.Tip())
	}
	fresh := &Past{}
	if err := fresh.Learn(t.Context(), r, head); err != nil || len(tips) < 2 || !reflect.DeepEqual(sorted(p), sorted(fresh)) {
		t.Errorf("%v after %v", err, tips)
	}
}
