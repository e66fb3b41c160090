package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const within = "DRYDOCK_TEST_NETWORK"

// listen waits for an address that was added a moment ago.
func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return l
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(err)
		}
	}
}

// TestRealAddresses makes a network of its own in which link-local, private and
// public addresses really answer, and asks them.
func TestRealAddresses(t *testing.T) {
	if os.Getenv(within) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestRealAddresses$", "-test.v")
		cmd.Env = append(os.Environ(), within+"=1", "HTTP_PROXY=", "HTTPS_PROXY=", "http_proxy=", "https_proxy=")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) && os.Getenv("DRYDOCK_TEST_FULL") == "" {
			t.Skip("needs root, for a network namespace")
		}
		if err != nil || !strings.Contains(string(out), "--- PASS: TestRealAddresses") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const link, private, public, metadata = "169.254.169.254", "10.1.2.3", "203.0.113.5", "fd00:ec2::254"
	up(t)
	for i, ip := range []string{link, private, public} {
		addIPv4(t, fmt.Sprintf("lo:%d", i+1), ip)
	}
	addIPv6(t, metadata)
	all := []string{"127.0.0.1", private, public, link, metadata}
	hits := map[string]*atomic.Int64{}
	for _, ip := range all {
		hits[ip] = new(atomic.Int64)
		l := listen(t, net.JoinHostPort(ip, "80"))
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			hits[ip].Add(1)
			w.Header().Set("X-Served", ip)
			if to := q.URL.Query().Get("to"); to != "" {
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusFound)
			}
		})}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { srv.Close() })
	}
	at := func(ip string) string { return "http://" + net.JoinHostPort(ip, "80") + "/" }

	// Each does answer, if it is let.
	for _, ip := range all {
		conn, err := net.Dial("tcp", net.JoinHostPort(ip, "80"))
		if err != nil {
			t.Fatalf("the rig: %v", err)
		}
		conn.Close()
	}
	c := NewClient(nil)
	defer c.CloseIdleConnections()
	for _, ip := range []string{"127.0.0.1", private, public} {
		if got, err := get(t, c, at(ip)); got != ip || err != nil {
			t.Errorf("named, %s: %q, %v", ip, got, err)
		}
	}
	for _, ip := range []string{link, metadata, "::ffff:" + link} {
		conn, err := Dialer(0).DialContext(t.Context(), "tcp", net.JoinHostPort(ip, "80"))
		var r *Refused
		if err == nil {
			conn.Close()
		}
		if !errors.As(err, &r) {
			t.Errorf("%s: %v", ip, err)
		}
	}
	// From one to another, also while a connection to it is still open.
	for _, from := range []string{"127.0.0.1", private, public} {
		for _, to := range all {
			before := hits[to].Load()
			_, err := get(t, c, at(from)+"?to="+at(to))
			a, b := PlaceOf(netip.MustParseAddr(from)), PlaceOf(netip.MustParseAddr(to))
			if allowed := b != Nowhere && b >= a; allowed != (err == nil) {
				t.Errorf("from %s to %s: %v", from, to, err)
			}
			if err != nil && from != to && hits[to].Load() != before {
				t.Errorf("from %s, %s was asked", from, to)
			}
		}
	}
	// The way back, over two.
	if _, err := get(t, c, at(private)+"?to="+at(public)+"%3Fto%3D"+at(private)); err == nil {
		t.Error("a public server led back into the private network")
	}
}

func control(t *testing.T, family int, request uint, arg unsafe.Pointer) {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		t.Fatal(errno)
	}
}

// ifreq is the kernel's struct for one address of IPv4, or for flags.
type ifreq struct {
	name  [16]byte
	value [24]byte
}

func up(t *testing.T) {
	r := ifreq{}
	copy(r.name[:], "lo")
	r.value[0], r.value[1] = unix.IFF_UP|unix.IFF_LOOPBACK, 0
	control(t, unix.AF_INET, unix.SIOCSIFFLAGS, unsafe.Pointer(&r))
}

func addIPv4(t *testing.T, name, ip string) {
	r := ifreq{}
	copy(r.name[:], name)
	r.value[0] = unix.AF_INET
	four := netip.MustParseAddr(ip).As4()
	copy(r.value[4:], four[:])
	control(t, unix.AF_INET, unix.SIOCSIFADDR, unsafe.Pointer(&r))
}

func addIPv6(t *testing.T, ip string) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	r := struct {
		address [16]byte
		prefix  uint32
		index   int32
	}{netip.MustParseAddr(ip).As16(), 128, int32(lo.Index)}
	control(t, unix.AF_INET6, unix.SIOCSIFADDR, unsafe.Pointer(&r))
}
