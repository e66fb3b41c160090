package outbound

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPlaces(t *testing.T) {
	for text, want := range map[string]Place{
		"8.8.8.8": Internet, "2606:4700::1111": Internet, "203.0.113.7": Internet, "172.32.0.1": Internet, "2002:0808:0808::1": Internet, "64:ff9b::808:808": Internet,

		"127.0.0.1": Here, "127.255.255.254": Here, "::1": Here, "::ffff:127.0.0.1": Here, "64:ff9b::7f00:1": Here, "2002:7f00:1::": Here, "::127.0.0.1": Here,
		"64:ff9b:1::7f00:1": Here, "64:ff9b:1:7f00:0:100::": Here, "2001:0:808:808:0:0:80ff:fffe": Here,

		"10.0.0.1": Private, "172.16.0.1": Private, "172.31.255.255": Private, "192.168.1.1": Private, "100.64.0.1": Private, "fd12::1": Private, "fc00::1": Private,
		"::ffff:10.0.0.1": Private, "64:ff9b::a00:1": Private, "2002:a00:1::1": Private, "198.18.0.1": Private, "fec0::1": Private,

		"169.254.169.254": Nowhere, "169.254.0.1": Nowhere, "fe80::1": Nowhere, "febf::1": Nowhere, "fe80::1%lo": Nowhere, "::1%lo": Nowhere, "fd00:ec2::254": Nowhere,
		"0.0.0.0": Nowhere, "0.1.2.3": Nowhere, "::": Nowhere, "::ffff:0.0.0.0": Nowhere, "224.0.0.1": Nowhere, "239.255.255.250": Nowhere, "255.255.255.255": Nowhere, "240.0.0.1": Nowhere, "ff02::1": Nowhere,
		"::ffff:169.254.169.254": Nowhere, "::169.254.169.254": Nowhere, "64:ff9b::a9fe:a9fe": Nowhere, "64:ff9b:1::a9fe:a9fe": Nowhere, "64:ff9b:1:a9fe:a9:fe00::": Nowhere,
		"2002:a9fe:a9fe::": Nowhere, "2001:0:808:808:0:0:5601:5601": Nowhere, "100.100.100.200": Nowhere, "168.63.129.16": Nowhere,

		"::ffff:0:127.0.0.1": Here, "::ffff:0:169.254.169.254": Nowhere, "::ffff:0:8.8.8.8": Internet, "2606:4700::5efe:10.0.0.1": Private, "2606:4700::200:5efe:169.254.169.254": Nowhere,
	} {
		if got := PlaceOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
	}
	if PlaceOf(netip.Addr{}) != Nowhere {
		t.Error("no address is somewhere")
	}
}

// However an IPv4 address is dressed up, it is no further away than it is.
func TestNoDressBringsAnAddressFurtherAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v4 := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
		b := v4.As4()
		var mapped, nat, six [16]byte
		mapped = v4.As16()
		copy(nat[:], []byte{0, 0x64, 0xff, 0x9b})
		copy(nat[12:], b[:])
		six[0], six[1] = 0x20, 0x02
		copy(six[2:], b[:])
		for _, dressed := range [][16]byte{mapped, nat, six} {
			if got := PlaceOf(netip.AddrFrom16(dressed)); got > PlaceOf(v4) {
				t.Fatalf("%s is %v, and %s %v", netip.AddrFrom16(dressed), got, v4, PlaceOf(v4))
			}
		}
	})
}

func TestCheckReadsWhatIsWritten(t *testing.T) {
	for host, refused := range map[string]bool{
		"git.acme.example": false, "10.0.0.1": false, "::1": false, "localhost": false, "3com": false, "web-1": false, "host.0a": false,
		"169.254.169.254": true, "[fe80::1]": true, "fe80::1%eth0": true, "::ffff:169.254.169.254": true, "0.0.0.0": true,
		"2852039166": true, "0xa9fea9fe": true, "0xa9.0xfe.0xa9.0xfe": true, "169.254.43518": true, "127.1": true, "": true,
	} {
		err := Check(host)
		var r *Refused
		if (err != nil) != refused || err != nil && (!errors.As(err, &r) || r.Next == "") {
			t.Errorf("Check(%q) = %v", host, err)
		}
	}
}

// A name is judged by what it leads to when it is used.
func TestANameThatLeadsToALinkLocalAddress(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go answerDNS(server, [4]byte{169, 254, 169, 254})
	d := Dialer(0)
	d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	conn, err := d.DialContext(t.Context(), "tcp", "innocent.acme.example:80")
	if err == nil {
		conn.Close()
	}
	var r *Refused
	if !errors.As(err, &r) || !strings.Contains(r.Why, "169.254.169.254 is a link-local address") {
		t.Errorf("got %v", err)
	}
}

// answerDNS gives the same address for every name, and none of IPv6.
func answerDNS(c net.PacketConn, ip [4]byte) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		end := 12
		for end < n && buf[end] != 0 {
			end += int(buf[end]) + 1
		}
		end += 5 // the root, type and class
		q := buf[12:end]
		reply := append([]byte{buf[0], buf[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q...)
		if q[len(q)-3] == 1 { // type A
			reply[7] = 1
			reply = append(append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4), ip[:]...)
		}
		_, _ = c.WriteTo(reply, from)
	}
}

func TestASocketInTheFileSystemIsNoAddress(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := Dialer(0).DialContext(t.Context(), "unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// get asks for a URL and says where the answer came from.
func get(t *testing.T, c *Client, target string) (string, error) {
	t.Helper()
	resp, err := c.Get(t.Context(), target, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	return resp.Header.Get("X-Served"), nil
}

func TestRedirects(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("X-Served", q.URL.Path)
		if to := q.URL.Query().Get("to"); to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	}))
	defer secure.Close()
	plain := httptest.NewServer(secure.Config.Handler)
	defer plain.Close()
	c := NewClient(secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs)
	defer c.CloseIdleConnections()
	times := func(n int) string {
		at := "/end"
		for range n {
			at = "/?to=" + url.QueryEscape(at)
		}
		return secure.URL + at
	}
	for name, c2 := range map[string]struct{ start, want, refused string }{
		"none":            {secure.URL + "/end", "/end", ""},
		"five":            {times(5), "/end", ""},
		"six":             {times(6), "", "more than 5 times"},
		"https to https":  {secure.URL + "/?to=" + secure.URL + "/end", "/end", ""},
		"http to https":   {plain.URL + "/?to=" + secure.URL + "/end", "/end", ""},
		"http to http":    {plain.URL + "/?to=" + plain.URL + "/end", "/end", ""},
		"https to http":   {secure.URL + "/?to=" + plain.URL + "/end", "", `from https to "http"`},
		"to ftp":          {plain.URL + "/?to=ftp://127.0.0.1/x", "", `to "ftp"`},
		"to a file":       {plain.URL + "/?to=file:///etc/passwd", "", `to "file"`},
		"to oci":          {plain.URL + "/?to=oci://r.acme.example/x", "", `to "oci"`},
		"to no host":      {secure.URL + "/?to=https:///x", "", "without a host"},
		"to a user":       {secure.URL + "/?to=" + strings.Replace(secure.URL, "://", "://a:b@", 1), "", "a name or a password"},
		"to link-local":   {plain.URL + "/?to=http://169.254.169.254/latest/meta-data", "", "link-local"},
		"to a zone":       {plain.URL + "/?to=" + url.QueryEscape("http://[fe80::1%25lo]/"), "", "one network card"},
		"to a number":     {plain.URL + "/?to=http://2852039166/", "", "read differently"},
		"to nonsense":     {plain.URL + "/?to=" + url.QueryEscape("http://[::1/"), "", "no URL"},
		"a named user":    {strings.Replace(secure.URL, "://", "://a:b@", 1), "", "holds a name or a password"},
		"a named file":    {"file:///etc/passwd", "", "not one to fetch from"},
		"a named address": {"http://169.254.169.254/", "", "link-local"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := get(t, c, c2.start)
			var r *Refused
			if c2.refused == "" && (err != nil || got != c2.want) {
				t.Errorf("served %q, %v", got, err)
			}
			if c2.refused != "" && (!errors.As(err, &r) || !strings.Contains(r.Why, c2.refused) || r.Next == "") {
				t.Errorf("got %v, want %q", err, c2.refused)
			}
		})
	}
}

// A proxy reaches what a name means; of the target only what is written can be
// judged. A redirect is no way round it to this machine either.
func TestBehindAProxy(t *testing.T) {
	asked := make(chan string, 20)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked <- q.URL.String()
		w.Header().Set("X-Served", "proxy")
		if to := q.URL.Query().Get("to"); to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	}))
	defer proxy.Close()
	here := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("this machine was asked") }))
	defer here.Close()
	c := NewClient(nil)
	defer c.CloseIdleConnections()
	c.proxy = func(q *http.Request) (*url.URL, error) {
		if q.URL.Hostname() == "127.0.0.1" { // as http.ProxyFromEnvironment does
			return nil, nil
		}
		return url.Parse(proxy.URL)
	}
	const at = "http://artifacts.acme.example/"
	for to, refused := range map[string]bool{
		"": false, at: false, "http://other.acme.example/": false,
		here.URL: true, "http://localhost:1/": true, "http://169.254.169.254/": true, "http://10.0.0.1/": true, "http://0x7f.1/": true,
	} {
		got, err := get(t, c, at+"?to="+to)
		if refused != (err != nil) || err == nil && got != "proxy" {
			t.Errorf("to %q: %q, %v", to, got, err)
		}
	}
	if _, err := get(t, c, "http://169.254.169.254/"); err == nil {
		t.Error("the proxy was asked for a link-local address")
	}
	if got, err := get(t, c, "http://10.0.0.1/"); err != nil || got != "proxy" {
		t.Errorf("a named private address: %q, %v", got, err)
	}
}
