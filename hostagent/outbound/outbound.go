// Package outbound says where this program connects to, and what may go along.
//
// An address is judged when it is connected to, after the name was resolved, so
// that a name which means one thing when it is checked and another when it is
// used gains nothing:
//
//   - link-local, multicast, unspecified and reserved addresses, and those where
//     a cloud tells a machine its secrets, are never connected to, in no way of
//     writing them (IPv4 within IPv6, NAT64, SIIT, 6to4, Teredo, ISATAP, a zone);
//   - loopback and private addresses are, where a declaration or the host's own
//     configuration names them;
//   - a redirect never leads nearer: not from the internet to a private network,
//     and from neither to this machine.
//
// A redirect carries nothing: no header of a declaration's, no cookie, no name
// and password, also not back to where it came from. It goes from https to
// https only, from http to either, to no other scheme, and at most five times.
//
// Behind a proxy (HTTPS_PROXY, HTTP_PROXY, NO_PROXY, as the host's own
// environment has them) it is the proxy that resolves names and connects. Then
// the proxy's address is judged like one that was named; of the target, what
// can be seen: an address that is written out, and localhost. What names may
// lead to is the proxy's to limit, and counts as the internet.
package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Place is how near an address is.
type Place int

// The places, the nearest first.
const (
	Nowhere  Place = iota // nothing connects to it
	Here                  // this machine
	Private               // a network that the internet does not reach
	Internet              // everything else
)

func (p Place) String() string {
	return [...]string{"an address that is never connected to", "this machine", "a private network", "the internet"}[p]
}

// Refused is a connection or a redirect that is not made. It is found through
// net's and net/http's own errors with errors.As.
type Refused struct {
	Why  string // what was refused
	Next string // what the reader can do
}

func (e *Refused) Error() string { return e.Why + ". " + e.Next }

// Explain is err's own words where something was refused, and err otherwise:
// net and net/http would put "dial tcp" and the like before them.
func Explain(err error) error {
	var r *Refused
	if errors.As(err, &r) {
		return r
	}
	return err
}

// Dialer connects to what a declaration or the host's configuration names.
// timeout 0 is the context's.
func Dialer(timeout time.Duration) *net.Dialer { return dialer(timeout, Here) }

// dialer connects to nothing nearer than floor.
func dialer(timeout time.Duration, floor Place) *net.Dialer {
	return &net.Dialer{Timeout: timeout, Control: func(network, address string, _ syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") && !strings.HasPrefix(network, "udp") {
			return nil // a socket in the file system
		}
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return &Refused{fmt.Sprintf("%q is no address that can be judged", address), "Write an IP address or a name."}
		}
		return judge(to.Addr(), floor)
	}}
}

// Check refuses a host that is written as an address to which nothing connects.
// A name passes: it is judged when it is connected to. It is for what reaches
// its target through a proxy, and for saying so early.
func Check(host string) error { return check(host, Here) }

func check(host string, floor Place) error {
	place, ip := written(host)
	switch {
	case ip.IsValid():
		return judge(ip, floor)
	case place == Nowhere:
		return &Refused{fmt.Sprintf("%q is an address in a form that programs read differently", host), "Write it as four numbers with dots, or as a name."}
	case place < floor:
		return nearer(host, place, floor)
	}
	return nil
}

func judge(ip netip.Addr, floor Place) error {
	place, what := placeOf(ip)
	switch {
	case place == Nowhere:
		return &Refused{fmt.Sprintf("%s is %s, which nothing here connects to", ip, what),
			"Name the address or the name at which it serves the network."}
	case place < floor:
		return nearer(ip.String(), place, floor)
	}
	return nil
}

func nearer(host string, place, floor Place) error {
	return &Refused{fmt.Sprintf("a server of %s redirects to %s, which is in %s", floor, host, place),
		"A redirect never leads nearer to this machine; if that place is meant, name its URL itself."}
}

// PlaceOf is where an address is, whatever form it is written in.
func PlaceOf(ip netip.Addr) Place {
	place, _ := placeOf(ip)
	return place
}

// network is a row of what is known about addresses.
type network struct {
	prefix string
	place  Place
	what   string
}

// networks are those that are not simply the internet: IANA's special-purpose
// registries, and where clouds answer with a machine's own secrets outside of
// the link-local range.
func networks() []network {
	const (
		link     = "a link-local address, where a cloud's metadata and a host's neighbours answer"
		group    = "a multicast address"
		nobody   = "nobody's address"
		metadata = "the address of a cloud's metadata"
	)
	return []network{
		{"0.0.0.0/8", Nowhere, nobody},
		{"169.254.0.0/16", Nowhere, link},
		{"224.0.0.0/4", Nowhere, group},
		{"240.0.0.0/4", Nowhere, nobody},
		{"::/128", Nowhere, nobody},
		{"fe80::/10", Nowhere, link},
		{"ff00::/8", Nowhere, group},
		{"fd00:ec2::/32", Nowhere, metadata},
		{"fd20:ce::254/128", Nowhere, metadata},
		{"100.100.100.200/32", Nowhere, metadata},
		{"168.63.129.16/32", Nowhere, metadata},
		{"192.0.0.192/32", Nowhere, metadata},

		{"127.0.0.0/8", Here, ""},
		{"::1/128", Here, ""},

		{"10.0.0.0/8", Private, ""},
		{"172.16.0.0/12", Private, ""},
		{"192.168.0.0/16", Private, ""},
		{"100.64.0.0/10", Private, ""},
		{"192.0.0.0/24", Private, ""},
		{"198.18.0.0/15", Private, ""},
		{"fc00::/7", Private, ""},
		{"fec0::/10", Private, ""},
	}
}

func placeOf(ip netip.Addr) (Place, string) {
	if !ip.IsValid() {
		return Nowhere, "no address"
	}
	if ip.Zone() != "" {
		return Nowhere, "an address of one network card"
	}
	ip = ip.Unmap()
	place, what := Internet, ""
	for _, n := range networks() {
		if n.place < place && netip.MustParsePrefix(n.prefix).Contains(ip) {
			place, what = n.place, n.what
		}
	}
	for _, within := range embedded(ip) {
		if p, w := placeOf(within); p < place {
			place, what = p, w+" written as an IPv6 one"
		}
	}
	return place, what
}

// embedded are the IPv4 addresses that an IPv6 address stands for somewhere on
// its way.
func embedded(ip netip.Addr) []netip.Addr {
	if !ip.Is6() {
		return nil
	}
	b := ip.As16()
	v4 := func(at ...int) netip.Addr { return netip.AddrFrom4([4]byte{b[at[0]], b[at[1]], b[at[2]], b[at[3]]}) }
	in := func(prefix string) bool { return netip.MustParsePrefix(prefix).Contains(ip) }
	last := v4(12, 13, 14, 15)
	switch {
	case in("::/96") && ip != netip.IPv6Unspecified() && ip != netip.IPv6Loopback(), in("64:ff9b::/96"), in("::ffff:0:0:0/96"): // "compatible"; NAT64; SIIT
		return []netip.Addr{last}
	case in("64:ff9b:1::/48"): // a network's own NAT64: 96 or 48 bits before the address
		var out []netip.Addr
		for _, a := range []netip.Addr{last, v4(6, 7, 9, 10)} {
			if a != netip.IPv4Unspecified() {
				out = append(out, a)
			}
		}
		return out
	case in("2002::/16"): // 6to4
		return []netip.Addr{v4(2, 3, 4, 5)}
	case in("2001::/32"): // Teredo hides the client's address by turning its bits round
		for i := 12; i < 16; i++ {
			b[i] ^= 0xff
		}
		return []netip.Addr{v4(12, 13, 14, 15)}
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, in any network
		return []netip.Addr{last}
	}
	return nil
}

// written is where a host is, as far as its text says: an address, this
// machine's name, a number that some programs take for an address (Nowhere and
// no address), or any other name.
func written(host string) (Place, netip.Addr) {
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return PlaceOf(ip), ip
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	label := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case name == "localhost" || label == "localhost" || name == "ip6-localhost":
		return Here, netip.Addr{}
	case name == "" || number(label): // 2130706433, 127.1, 0x7f.1
		return Nowhere, netip.Addr{}
	}
	return Internet, netip.Addr{}
}

// number reports whether some programs would read a host whose last label this
// is as an address.
func number(label string) bool {
	hex, isHex := strings.CutPrefix(label, "0x")
	if isHex {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
