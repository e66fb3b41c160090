package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"drydock/reconcile"
	"drydock/spec"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("JOURNAL_TEST_CHILD"); path != "" {
		child(path)
		return
	}
	goleak.VerifyTestMain(m)
}

// child appends for ever and prints each seq once Append returned.
func child(path string) {
	j, err := Open(Options{Path: path, KeepRecords: 100})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var out sync.Mutex
	for i := range 4 {
		go func() {
			for {
				r, err := j.Append(context.Background(), begun(fmt.Sprintf("s%d", i), "s/drain/file"))
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println(r.Seq)
				out.Unlock()
			}
		}()
	}
	select {}
}

func begun(service, step string) reconcile.Record {
	return reconcile.Record{Kind: reconcile.Begun, Service: service, Step: step, Phase: reconcile.Drain,
		Block: &spec.Block{Type: "drain", Driver: "file", Config: []byte(`{"path":"/a?b=1&c=<d>"}`)}}
}

func open(t testing.TB, path string, keep int) *Journal {
	t.Helper()
	j, err := Open(Options{Path: path, KeepRecords: keep, Boot: "boot-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func mustAppend(t testing.TB, j *Journal, r reconcile.Record) reconcile.Record {
	t.Helper()
	r, err := j.Append(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func all(t testing.TB, j *Journal) (rs []reconcile.Record) {
	t.Helper()
	for r, err := range j.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

var same = cmp.Options{cmpopts.EquateEmpty()}

func TestAppendFillsInAndSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "journal.db")
	j := open(t, path, 0)
	first := mustAppend(t, j, begun("web", "web/drain/file"))
	second := mustAppend(t, j, reconcile.Record{Kind: reconcile.Accepted, Commit: "abc", Boot: "other"})
	if first.Seq != 1 || second.Seq != 2 || first.Boot != "boot-1" || second.Boot != "other" || first.Time.IsZero() {
		t.Errorf("got %+v and %+v", first, second)
	}
	want := []reconcile.Record{first, second}
	memory := j.Memory()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), first); !errors.Is(err, ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
	j = open(t, path, 0)
	if diff := cmp.Diff(want, all(t, j), same); diff != "" {
		t.Error("records changed:\n", diff)
	}
	if diff := cmp.Diff(memory, j.Memory(), same); diff != "" {
		t.Error("memory changed:\n", diff)
	}
	if j.Rebuilt() != nil {
		t.Error("a whole file was rebuilt")
	}
}

func TestMemoryIsACopy(t *testing.T) {
	m := reconcile.NewMemory()
	fill(reflect.ValueOf(m).Elem(), 0)
	before := clone(m)
	c := clone(m)
	if diff := cmp.Diff(*m, c, same); diff != "" {
		t.Fatal("clone differs:\n", diff)
	}
	shared(t, "Memory", reflect.ValueOf(*m), reflect.ValueOf(c))
	c.Good["x"] = "y"
	if diff := cmp.Diff(before, *m, same); diff != "" {
		t.Error("the copy changed the original:\n", diff)
	}
}

// fill sets every field, so that a field added later is tested without a line here.
func fill(v reflect.Value, depth int) {
	if depth > 12 || v.Type() == reflect.TypeFor[time.Time]() {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), depth+1)
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		fill(e, depth+1)
		v.SetMapIndex(reflect.ValueOf("k").Convert(v.Type().Key()), e)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.String:
		v.SetString("s")
	}
}

// shared fails for every map, slice and pointer that both have, outside of the
// values that nobody changes.
func shared(t *testing.T, path string, a, b reflect.Value) {
	switch a.Type() {
	case reflect.TypeFor[spec.Service](), reflect.TypeFor[spec.Block](), reflect.TypeFor[time.Time](), reflect.TypeFor[spec.Release]():
		return
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if !a.IsNil() && a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", path)
			return
		}
	}
	switch a.Kind() {
	case reflect.Pointer:
		if !a.IsNil() {
			shared(t, path, a.Elem(), b.Elem())
		}
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Map:
		for _, k := range a.MapKeys() {
			shared(t, path+"[]", a.MapIndex(k), b.MapIndex(k))
		}
	case reflect.Slice:
		for i := range a.Len() {
			shared(t, path+"[]", a.Index(i), b.Index(i))
		}
	}
}

func TestKeepsOnlyTheTailAndAFileThatDoesNotGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path, 100)
	var sizes [2]int64
	for round := range 2 {
		for range 1500 * (round + 1) {
			mustAppend(t, j, begun("web", "web/drain/file"))
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sizes[round] = info.Size()
	}
	if sizes[1] > sizes[0]*2 {
		t.Errorf("the file grew from %d to %d", sizes[0], sizes[1])
	}
	memory := j.Memory()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, path, 100)
	rs := all(t, j)
	if len(rs) < 50 || len(rs) > 101 || rs[len(rs)-1].Seq != 4500 {
		t.Errorf("%d records are kept, the last %d", len(rs), rs[len(rs)-1].Seq)
	}
	if diff := cmp.Diff(memory, j.Memory(), same); diff != "" {
		t.Error("memory changed:\n", diff)
	}
}

func TestSecondProcessIsToldWhoHoldsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	open(t, path, 0)
	for _, readOnly := range []bool{false, true} {
		_, err := Open(Options{Path: path, Timeout: time.Millisecond, ReadOnly: readOnly})
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
			t.Errorf("read-only %v: got %v", readOnly, err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	if _, err := Open(Options{Path: path, ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	j := open(t, path, 0)
	for range 600 {
		mustAppend(t, j, begun("web", "web/drain/file"))
	}
	want, memory := all(t, j), j.Memory()
	_ = j.Close()
	r, err := Open(Options{Path: path, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if diff := cmp.Diff(want, all(t, r), same); diff != "" || len(want) != 600 {
		t.Error("records differ:\n", diff)
	}
	if diff := cmp.Diff(memory, r.Memory(), same); diff != "" {
		t.Error("memory differs:\n", diff)
	}
	if _, err := r.Append(t.Context(), begun("web", "x")); err == nil {
		t.Error("appended to a read-only journal")
	}
	open(t, path, 0) // it holds no lock
}

func TestNewerVersionIsRefusedAndLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path, 0)
	mustAppend(t, j, begun("web", "x"))
	_ = j.Close()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keyFormat, seal(keyFormat, []byte("2")))
	}), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	if _, err := Open(Options{Path: path}); !errors.Is(err, ErrNewer) {
		t.Fatalf("got %v", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the file was touched")
	}
}

func TestConcurrentAppendsAreAllThereInOrder(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "journal.db"), 0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				if _, err := j.Append(t.Context(), begun(fmt.Sprint(i), "x")); err != nil {
					t.Error(err)
				}
				_ = j.Memory()
			}
		})
	}
	wg.Wait()
	for i, r := range all(t, j) {
		if r.Seq != uint64(i+1) {
			t.Fatalf("record %d has seq %d", i, r.Seq)
		}
	}
	if m := j.Memory(); m.Seq != 400 {
		t.Errorf("memory stands at %d", m.Seq)
	}
}

func TestRecordThatIsTooLargeHarmsNoOther(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "journal.db"), 0)
	if _, err := j.Append(t.Context(), reconcile.Record{Kind: reconcile.Good, Reason: strings.Repeat("x", maxRecord)}); err == nil {
		t.Error("it was written")
	}
	if r := mustAppend(t, j, begun("web", "x")); r.Seq != 1 {
		t.Errorf("the next has seq %d", r.Seq)
	}
}

// sample is a journal file with pruned and kept records and a branch page.
func sample(t *testing.T) (image []byte, want reconcile.Memory) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path, 60)
	for i := range 230 {
		mustAppend(t, j, begun(fmt.Sprintf("s%d", i%3), "x"))
	}
	want = j.Memory()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return image, want
}

// survives opens a damaged file: either nothing is lost, or it says so, and
// either way it can be used.
func survives(t *testing.T, path string, image []byte, want reconcile.Memory) (rebuilt bool) {
	t.Helper()
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := Open(Options{Path: path, KeepRecords: 60})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if r := j.Rebuilt(); r != nil {
		aside, err := os.ReadFile(r.Aside)
		if err != nil || string(aside) != string(image) || r.Cause == "" {
			t.Errorf("set aside as %q: %v", r.Aside, err)
		}
		return true
	}
	if diff := cmp.Diff(want, j.Memory(), same); diff != "" {
		t.Error("lost without a word:\n", diff)
	}
	mustAppend(t, j, begun("web", "x"))
	_ = all(t, j)
	return false
}

func TestFlippedBytes(t *testing.T) {
	image, want := sample(t)
	path := filepath.Join(t.TempDir(), "journal.db")
	step := 97 // a prime, so that all places in a page have their turn
	if testing.Short() {
		step = 997
	}
	rebuilt := 0
	flip := func(i int, mask byte) {
		damaged := append([]byte(nil), image...)
		damaged[i] ^= mask
		if survives(t, path, damaged, want) {
			rebuilt++
		}
		if t.Failed() {
			t.Fatalf("flipped byte %d of %d with %#x", i, len(image), mask)
		}
	}
	for i := 0; i < len(image); i += step {
		flip(i, 1<<(i%8))
	}
	pageSize := os.Getpagesize()
	for page := 0; page < len(image); page += pageSize {
		for i := page; i < page+80; i += 5 { // headers, metas, elements
			flip(i, 0xff)
		}
	}
	if rebuilt == 0 {
		t.Error("no flip was noticed")
	}
}

func TestTruncatedAnywhere(t *testing.T) {
	image, want := sample(t)
	path := filepath.Join(t.TempDir(), "journal.db")
	for n := 0; n < len(image); n += 512 {
		survives(t, path, image[:n], want)
		if t.Failed() {
			t.Fatalf("cut to %d of %d", n, len(image))
		}
	}
	aside, _ := filepath.Glob(path + ".corrupt-*")
	if len(aside) > asideKept {
		t.Errorf("%d corrupt files are kept", len(aside))
	}
}

func TestRebuiltLastsUntilDone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := os.WriteFile(path, []byte("not a journal"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: path, ReadOnly: true}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("read-only: %v", err)
	}
	j := open(t, path, 0)
	if j.Rebuilt() == nil {
		t.Fatal("not told")
	}
	_ = j.Close() // killed before it was done
	j = open(t, path, 0)
	if j.Rebuilt() == nil {
		t.Fatal("forgotten")
	}
	if err := j.RebuildDone(t.Context()); err != nil || j.Rebuilt() != nil {
		t.Fatal(err, j.Rebuilt())
	}
	_ = j.Close()
	if j = open(t, path, 0); j.Rebuilt() != nil {
		t.Error("not durable")
	}
}

func TestFailedWriteLosesNothingAndHeals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path, 0)
	mustAppend(t, j, begun("web", "x"))
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(path)
	limit := old
	limit.Cur = uint64(info.Size()) + 256<<10 // less than the record; what go test itself writes has room
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Skip(err)
	}
	big := reconcile.Record{Kind: reconcile.Good, Reason: strings.Repeat("x", 1<<20)}
	_, err := j.Append(t.Context(), big)
	_ = unix.Setrlimit(unix.RLIMIT_FSIZE, &old)
	if err == nil || reconcile.BlameOf(err) != reconcile.OfHost {
		t.Errorf("got %v", err)
	}
	if m := j.Memory(); m.Seq != 1 {
		t.Errorf("the memory ran ahead to %d", m.Seq)
	}
	if r := mustAppend(t, j, big); r.Seq != 2 || len(all(t, j)) != 2 {
		t.Errorf("after it: seq %d", r.Seq)
	}
}

func TestKilledWhileAppending(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	last := uint64(0)
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "JOURNAL_TEST_CHILD="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			seq, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatal(lines.Text())
			}
			last = max(last, seq)
			if n == 20+17*round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		j := open(t, path, 100)
		if m := j.Memory(); m.Seq < last || j.Rebuilt() != nil {
			t.Fatalf("round %d: %d was returned, %d is there, rebuilt: %v", round, last, m.Seq, j.Rebuilt())
		}
		_ = j.Close()
	}
}

func TestMemoryIsTheFoldOfTheRecords(t *testing.T) {
	kinds := []reconcile.Kind{reconcile.Accepted, reconcile.Good, reconcile.Planned, reconcile.Begun, reconcile.Done,
		reconcile.Failed, reconcile.Quarantined, reconcile.Stopped, reconcile.Closed, reconcile.Adopted, reconcile.Held,
		reconcile.Released, reconcile.Settled, reconcile.Renamed, reconcile.Paused, reconcile.Resumed, reconcile.Sighted}
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		j := open(t, path, rapid.SampledFrom([]int{5, 1000}).Draw(rt, "keep"))
		var written []reconcile.Record
		for range rapid.IntRange(0, 30).Draw(rt, "records") {
			name := rapid.StringMatching(`[a-c]`)
			r := reconcile.Record{Kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), Service: name.Draw(rt, "service"),
				Step: name.Draw(rt, "step"), Phase: reconcile.Phase(rapid.IntRange(0, 6).Draw(rt, "phase")),
				Reason: rapid.String().Draw(rt, "reason"), Commit: name.Draw(rt, "commit")}
			if rapid.Bool().Draw(rt, "with") {
				r.Block = &spec.Block{Type: "drain", Driver: "file", Config: []byte(`{}`)}
				r.Revision = &spec.Revision{Version: name.Draw(rt, "version")}
				r.Warrant = &reconcile.Warrant{How: "signed", By: []string{r.Service}, News: time.Unix(rapid.Int64Range(0, 2e9).Draw(rt, "news"), 0).UTC()}
				r.Plan = &reconcile.OpenPlan{Purpose: reconcile.Purpose(rapid.IntRange(0, 3).Draw(rt, "purpose")),
					Target: spec.Service{Name: r.Service, Release: spec.Release{Version: name.Draw(rt, "target")}}}
			}
			written = append(written, mustAppend(t, j, r))
		}
		_ = j.Close()
		j = open(t, path, 1000)
		fold := func() reconcile.Memory {
			m := reconcile.NewMemory()
			for _, r := range written {
				b, err := encode(r)
				if err != nil {
					rt.Fatal(err)
				}
				m.Apply(decoded(b))
			}
			return *m
		}
		if diff := cmp.Diff(fold(), fold(), same); diff != "" {
			rt.Fatal("fold is not deterministic:\n", diff)
		}
		if diff := cmp.Diff(fold(), j.Memory(), same); diff != "" {
			rt.Fatal(diff)
		}
		_ = j.Close()
		_ = os.Remove(path)
		_ = os.Remove(path + ".lock")
	})
}

func FuzzVerify(f *testing.F) {
	path := filepath.Join(f.TempDir(), "journal.db")
	if err := create(path, &Rebuilt{Cause: "x"}); err != nil {
		f.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(image)
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, image []byte) { _ = verify(image) }) // no panic, and it ends
}

func BenchmarkAppend(b *testing.B) {
	j := open(b, filepath.Join(b.TempDir(), "journal.db"), 0)
	for b.Loop() {
		mustAppend(b, j, begun("web", "web/drain/file"))
	}
}

func BenchmarkAppendBy8(b *testing.B) {
	j := open(b, filepath.Join(b.TempDir(), "journal.db"), 0)
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mustAppend(b, j, begun("web", "web/drain/file"))
		}
	})
}

func BenchmarkOpen2000(b *testing.B) {
	path := filepath.Join(b.TempDir(), "journal.db")
	j := open(b, path, 0)
	for range 1990 {
		mustAppend(b, j, begun("web", "web/drain/file"))
	}
	_ = j.Close()
	for b.Loop() {
		j, err := Open(Options{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		_ = j.Close()
	}
}
