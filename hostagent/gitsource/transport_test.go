package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

const token = "s3cret-t0ken"

// transports are all ways to reach a repository, over real servers.
func transports(t *testing.T) map[string]func(t *testing.T, o *origin) (url string, change func(*Options)) {
	keep := func(*Options) {}
	return map[string]func(t *testing.T, o *origin) (string, func(*Options)){
		"path": func(t *testing.T, o *origin) (string, func(*Options)) { return o.dir, keep },
		"file": func(t *testing.T, o *origin) (string, func(*Options)) { return "file://" + o.dir + "/.git", keep },
		"git":  func(t *testing.T, o *origin) (string, func(*Options)) { return gitDaemon(t, o.dir) + ".git", keep },
		"https": func(t *testing.T, o *origin) (string, func(*Options)) {
			url, ca := httpsGit(t, o.dir, func(w http.ResponseWriter, r *http.Request) bool {
				_, password, _ := r.BasicAuth()
				if password != token {
					w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
					http.Error(w, "no", http.StatusUnauthorized)
				}
				return password == token
			})
			return url + ".git", func(o *Options) { o.CA, o.Token = ca, func() (string, error) { return token + "\n", nil } }
		},
		"https bearer": func(t *testing.T, o *origin) (string, func(*Options)) {
			url, ca := httpsGit(t, o.dir, func(w http.ResponseWriter, r *http.Request) bool {
				ok := r.Header.Get("Authorization") == "Bearer "+token
				if !ok {
					w.Header().Set("WWW-Authenticate", `Bearer realm="git"`)
					http.Error(w, "no", http.StatusUnauthorized)
				}
				return ok
			})
			return url + ".git", func(o *Options) { o.CA, o.Token = ca, func() (string, error) { return token, nil } }
		},
		"ssh": func(t *testing.T, o *origin) (string, func(*Options)) {
			rig := sshServer(t, uploadPack(o.dir))
			return "ssh://git@" + rig.addr + "/.git", rig.use
		},
	}
}

func TestEveryTransport(t *testing.T) {
	t.Parallel()
	for name, serve := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			first := o.commit("prod/web.hcl", "one\n", "staging/web.hcl", strings.Repeat("long\n", 999))
			url, change := serve(t, o)
			s := follow(t, url, change)
			content(t, head(t, s, "", first).FS, "prod/web.hcl", "one\n")
			head(t, s, first, first) // nothing new
			second := o.commit("prod/web.hcl", "two\n", "staging/web.hcl", strings.Repeat("long\n", 1000))
			snap := head(t, s, first, second)
			content(t, snap.FS, "prod/web.hcl", "two\n")
			content(t, snap.FS, "staging/web.hcl", strings.Repeat("long\n", 1000))
			if packs := len(s.clone.objects.list()); packs != 2 {
				t.Errorf("%d packs after two fetches", packs)
			}
			if strings.Contains(snap.URL, token) {
				t.Error("the snapshot shows the token")
			}

			o.git("branch", "-M", "main", "other")
			if err := refuse(t, s, second, ErrGone); strings.Contains(err.Error(), token) {
				t.Error("the error shows the token")
			}
			o.git("branch", "-M", "other", "main")
			o.git("reset", "-q", "--hard", first)
			refuse(t, s, second, ErrRewound)
			third := o.commit("prod/web.hcl", "three\n")
			refuse(t, s, second, ErrForced)
			head(t, s, "", third) // but a new host may take it up
			run(t, "", "git", "--git-dir", s.o.Dir, "fsck", "--strict", "--full", "--connectivity-only")
		})
	}
}

func TestAnEmptyRepositoryIsGone(t *testing.T) {
	t.Parallel()
	for name, serve := range transports(t) {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			url, change := serve(t, o)
			refuse(t, follow(t, url, change), "", ErrGone)
		})
	}
}

func TestNothingThere(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit()
	web, ca := httpsGit(t, o.dir, nil)
	rig := sshServer(t, uploadPack(o.dir))
	closed := serveTCP(t, func(net.Conn) {})
	for url, kind := range map[string]error{
		filepath.Join(o.dir, "absent"):        ErrUnreachable,
		gitDaemon(t, o.dir) + "absent":        ErrDenied,
		web + "absent":                        ErrDenied,
		"ssh://git@" + rig.addr + "/absent":   ErrDenied,
		"git://" + closed + "/":               ErrUnreachable,
		"ssh://git@" + closed + "/":           ErrDenied, // not in known_hosts
		"http://" + closed + "/":              ErrUnreachable,
		"git://nothing.invalid/x":             ErrUnreachable,
		"https://user:pass@nothing.invalid/x": ErrUnreachable,
	} {
		s := follow(t, url, rig.use, func(o *Options) { o.CA = ca })
		if err := refuse(t, s, "", kind); strings.Contains(err.Error(), "pass@") {
			t.Error("the error shows a password")
		}
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := func() (string, error) { return token, nil }
	for name, o := range map[string]Options{
		"no url":              {Dir: dir},
		"no directory":        {URL: "/x"},
		"scheme":              {URL: "ftp://x/y", Dir: dir},
		"branch":              {URL: "/x", Dir: dir, Branch: "a..b"},
		"ssh without key":     {URL: "ssh://x/y", Dir: dir},
		"token in the clear":  {URL: "http://git.acme.example/y", Dir: dir, Token: secret},
		"ca without contents": {URL: "/x", Dir: dir, CA: "/dev/null"},
		"no ca":               {URL: "/x", Dir: dir, CA: "/nonexistent"},
		"link-local":          {URL: "https://169.254.169.254/x", Dir: dir},
		"link-local, git":     {URL: "git://[fe80::1%25eth0]/x", Dir: dir},
		"link-local, ssh":     {URL: "git@169.254.169.254:x", Dir: dir, SSHKey: "/x"},
		"link-local mirror":   {URL: "/x", Mirrors: []string{"https://[::ffff:169.254.169.254]/x"}, Dir: dir},
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestACertificateThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit()
	url, _ := httpsGit(t, o.dir, nil)
	refuse(t, follow(t, url+".git"), "", ErrDenied)
}

func TestTheTokenNeverReachesAnotherHost(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("a.hcl", "a\n")
	leaked := make(chan string, 10)
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked <- r.URL.Path + " " + r.Header.Get("Authorization")
	}))
	defer other.Close()
	secret := func(o *Options) { o.Token = func() (string, error) { return token, nil } }

	t.Run("by a redirect", func(t *testing.T) {
		url, ca := httpsGit(t, o.dir, func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return false
		})
		refuse(t, follow(t, url+".git", secret, func(o *Options) { o.CA = ca }), "", ErrDenied)
	})
	t.Run("by a redirect of the fetch", func(t *testing.T) {
		url, ca := httpsGit(t, o.dir, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
			}
			return r.Method != http.MethodPost
		})
		refuse(t, follow(t, url+".git", secret, func(o *Options) { o.CA = ca }), "", ErrDenied)
	})
	t.Run("as a mirror's", func(t *testing.T) {
		url, ca := httpsGit(t, o.dir, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") != "" {
				leaked <- "mirror"
			}
			return true
		})
		s := follow(t, "https://127.0.0.1:1/x", secret, func(o *Options) { o.CA, o.Mirrors = ca, []string{url + ".git"} })
		head(t, s, "", first)
	})
	t.Run("within the host", func(t *testing.T) {
		sent := ""
		url, ca := httpsGit(t, o.dir, func(w http.ResponseWriter, r *http.Request) bool {
			if p, ok := strings.CutPrefix(r.URL.Path, "/old"); ok {
				sent = r.Header.Get("Authorization")
				http.Redirect(w, r, p+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
				return false
			}
			if got := r.Header.Get("Authorization"); got != "" {
				leaked <- "where a redirect leads, with " + r.Method
			}
			return true
		})
		head(t, follow(t, url+"old/.git", secret, func(o *Options) { o.CA = ca }), "", first)
		if sent == "" {
			t.Error("the host that was named did not get it")
		}
	})
	t.Run("within the host, where it is asked for", func(t *testing.T) {
		url, ca := httpsGit(t, o.dir, func(w http.ResponseWriter, r *http.Request) bool {
			if p, ok := strings.CutPrefix(r.URL.Path, "/old"); ok {
				http.Redirect(w, r, p+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
				return false
			}
			w.WriteHeader(http.StatusUnauthorized)
			return false
		})
		err := refuse(t, follow(t, url+"old/.git", secret, func(o *Options) { o.CA = ca }), "", ErrDenied)
		if !strings.Contains(err.Error(), "a token follows no redirect") {
			t.Error(err)
		}
	})
	for name, to := range map[string]string{"link-local": "http://169.254.169.254/", "a file": "file:///etc/passwd", "a password": "", "itself": "?"} {
		t.Run("to "+name, func(t *testing.T) {
			url, ca := httpsGit(t, o.dir, func(w http.ResponseWriter, r *http.Request) bool {
				at := to
				if at == "" {
					at = "https://a:b@" + r.Host + "/"
				}
				w.Header().Set("Location", at)
				w.WriteHeader(http.StatusFound)
				return false
			})
			refuse(t, follow(t, url+".git", func(o *Options) { o.CA = ca }), "", ErrDenied)
		})
	}
	select {
	case what := <-leaked:
		t.Errorf("another host was asked: %s", what)
	default:
	}
}

func TestAHostKeyThatIsNotTheKnownOne(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit()
	rig, other := sshServer(t, uploadPack(o.dir)), sshServer(t, uploadPack(o.dir))
	s := follow(t, "ssh://git@"+rig.addr+"/.git", rig.use, func(o *Options) {
		text, err := os.ReadFile(other.known)
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := strings.Cut(rig.addr, ":")
		_, was, _ := strings.Cut(other.addr, ":")
		if err := os.WriteFile(other.known, []byte(strings.Replace(string(text), was, port, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		o.KnownHosts = other.known
	})
	err := refuse(t, s, "", ErrDenied)
	if !strings.Contains(err.Error(), "not the known one") {
		t.Error(err)
	}
	s = follow(t, "ssh://git@"+rig.addr+"/.git", rig.use, func(o *Options) { o.SSHKey = other.key })
	refuse(t, s, "", ErrDenied)
}

// impatient is a source that gives up soon.
func impatient(o *Options) { o.Timeout, o.FetchTimeout = 300*time.Millisecond, time.Minute }

func TestSilence(t *testing.T) {
	o := newOrigin(t)
	tip := o.commit("a.hcl", strings.Repeat("a\n", 1000))
	advert := pkt(tip+" refs/heads/main\x00side-band-64k ofs-delta\n") + "0000"
	silent := func(after string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.WriteString(c, after)
			_, _ = io.Copy(io.Discard, c)
		}
	}
	web := func(after string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, _ = io.WriteString(w, after)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	deaf := sshServer(t, func(string, ssh.Channel) {})
	deafAddr := serveTCP(t, silent(""))
	known, err := os.ReadFile(deaf.known)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(deaf.known, []byte(strings.Replace(string(known), port(deaf.addr), port(deafAddr), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	mute := sshServer(t, func(_ string, c ssh.Channel) { _, _ = io.Copy(io.Discard, c) })
	half := sshServer(t, func(_ string, c ssh.Channel) {
		_, _ = io.WriteString(c, advert)
		_, _ = io.Copy(io.Discard, c)
	})
	for name, c := range map[string]struct {
		url string
		use func(*Options)
	}{
		"git, nothing":               {"git://" + serveTCP(t, silent("")), nil},
		"git, half a line":           {"git://" + serveTCP(t, silent("00")), nil},
		"git, half a listing":        {"git://" + serveTCP(t, silent(pkt(tip+" refs/heads/a\x00\n"))), nil},
		"git, no pack":               {"git://" + serveTCP(t, silent(advert)), nil},
		"git, an answer and no pack": {"git://" + serveTCP(t, silent(advert+pkt("NAK\n"))), nil},
		"git, half a pack":           {"git://" + serveTCP(t, silent(advert+pkt("NAK\n")+pkt("\x01PACK\x00\x00\x00\x02\x00\x00\x00\x09"))), nil},
		"http, nothing":              {web(""), nil},
		"http, half a listing":       {web(pkt("# service=git-upload-pack\n") + "0000" + pkt(tip+" refs/heads/a\x00\n")), nil},
		"ssh, nothing at all":        {"ssh://git@" + deafAddr + "/x", deaf.use},
		"ssh, no listing":            {"ssh://git@" + mute.addr + "/x", mute.use},
		"ssh, no pack":               {"ssh://git@" + half.addr + "/x", half.use},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.use == nil {
				c.use = func(*Options) {}
			}
			refuse(t, follow(t, c.url, impatient, c.use), "", ErrUnreachable)
		})
	}
}

func port(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }

func pkt(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }

func TestCancelled(t *testing.T) {
	asked := make(chan struct{})
	addr := serveTCP(t, func(c net.Conn) { close(asked); _, _ = io.Copy(io.Discard, c) })
	s := follow(t, "git://"+addr)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-asked; cancel() }()
	if _, err := s.Head(ctx, ""); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}
}

func TestLies(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	old := o.commit("a.hcl", "one\n")
	tip := o.commit("a.hcl", "two\n", "b.hcl", "b\n")
	packOf := func(rev string, without ...string) string {
		list := runEnv(t, o.dir, nil, "git", "rev-list", "--objects", "--no-object-names", rev) + "\n"
		for _, h := range without {
			list = strings.ReplaceAll(list, h+"\n", "")
		}
		path := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(path, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "out.pack")
		run(t, o.dir, "sh", "-c", "git pack-objects -q --stdout <"+path+" >"+out)
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	serve := func(advertised string, answer func(w io.Writer)) string {
		return "git://" + serveTCP(t, func(c net.Conn) {
			_, _ = io.WriteString(c, pkt(advertised+" refs/heads/main\x00side-band-64k ofs-delta\n")+"0000")
			buf := make([]byte, 1<<16) // the name, then the request, then flush or done
			var got strings.Builder
			for !strings.HasSuffix(got.String(), "done\n") {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				got.Write(buf[:n])
			}
			_, _ = io.WriteString(c, pkt("NAK\n"))
			answer(c)
		})
	}
	send := func(pack string, end string) func(io.Writer) {
		return func(w io.Writer) {
			for len(pack) > 0 {
				n := min(len(pack), 60000)
				_, _ = io.WriteString(w, pkt("\x01"+pack[:n]))
				pack = pack[n:]
			}
			_, _ = io.WriteString(w, end)
		}
	}
	whole := packOf(tip)
	flipped := []byte(whole)
	flipped[len(flipped)/2] ^= 0x10
	endless := func(w io.Writer) {
		_, _ = io.WriteString(w, pkt("\x01PACK\x00\x00\x00\x02\x00\x00\x00\x09"))
		line := pkt("\x01" + strings.Repeat("x", 60000))
		for {
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
		}
	}
	absent := strings.Repeat("ab", 20)
	for name, c := range map[string]struct {
		url  string
		kind error
	}{
		"a hash it has not":      {serve(absent, send(whole, "0000")), ErrCorrupt},
		"another commit's pack":  {serve(tip, send(packOf(old), "0000")), ErrCorrupt},
		"a pack without parents": {serve(tip, send(packOf(old+".."+tip), "0000")), ErrCorrupt},
		"without an old file":    {serve(tip, send(packOf(tip, o.git("rev-parse", old+":a.hcl")), "0000")), ErrCorrupt},
		"without an old folder":  {serve(tip, send(packOf(tip, o.git("rev-parse", old+"^{tree}")), "0000")), ErrCorrupt},
		"ends mid-pack":          {serve(tip, send(whole[:len(whole)/2], "")), ErrUnreachable},
		"says it is done early":  {serve(tip, send(whole[:len(whole)/2], "0000")), ErrCorrupt},
		"a flipped bit":          {serve(tip, send(string(flipped), "0000")), ErrCorrupt},
		"an endless pack":        {serve(tip, endless), ErrTooLarge},
		"an empty pack":          {serve(tip, send("", "0000")), ErrUnreachable},
		"no pack":                {serve(tip, send("<html>not a pack, but long enough to be read as one</html>", "0000")), ErrCorrupt},
		"an error":               {serve(tip, func(w io.Writer) { _, _ = io.WriteString(w, pkt("\x03out of memory\n")) }), ErrUnreachable},
		"not git":                {"git://" + serveTCP(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400\r\n\r\n") }), ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			s := follow(t, c.url, func(o *Options) { o.MaxPack = 1 << 20 })
			refuse(t, s, "", c.kind)
			left, err := fs.Glob(os.DirFS(s.o.Dir), "objects/pack/*")
			if err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if _, err := s.current(); err != nil {
				t.Errorf("the server's fault was taken for the clone's: %v", err)
			}
			// The same clone goes on with an honest server.
			again := s.o
			again.URL = o.dir
			head(t, open(t, again), "", tip)
		})
	}
}

func TestAWebPageIsNotARepository(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "<html>sign in</html>")
	}))
	defer srv.Close()
	refuse(t, follow(t, srv.URL), "", ErrUnreachable)
}
