package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"drydock/hostagent/outbound"
	"drydock/reconcile"
)

// maxAnswer is how much of an answer is read: a line of 200 bytes for each
// server of a backend with 20,000.
const maxAnswer = 4 << 20

// address is where HAProxy's runtime API listens.
type address struct {
	url           string // as declared
	network, path string // for net.Dial
	limit         time.Duration
}

func addressOf(s string) (address, error) {
	u, err := url.Parse(s)
	switch {
	case err == nil && u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return address{url: s, network: "unix", path: u.Path}, nil
	case err == nil && u.Scheme == "tcp" && u.Port() != "" && u.Hostname() != "":
		return address{url: s, network: "tcp", path: u.Host}, nil
	}
	return address{}, reconcile.HostFault(fmt.Errorf("%q is no address of a runtime API", s),
		"Write unix:///run/haproxy/admin.sock, the path of a `stats socket`, or tcp://127.0.0.1:9999.")
}

// ask sends one command over a connection of its own and returns the answer
// without the empty line that ends it. An answer without that line is half of
// one, whatever it says, and an error.
func (a address) ask(ctx context.Context, command string) (string, error) {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, a.limit)
	defer cancel()
	answer, err := a.exchange(ctx, command)
	if outer.Err() != nil && err != nil {
		return "", fmt.Errorf("asking HAProxy at %s: %w", a.url, outer.Err())
	}
	if err != nil {
		return "", a.fault(command, err)
	}
	if answer == "\n" {
		return "", nil
	}
	whole, ok := strings.CutSuffix(answer, "\n\n")
	if !ok {
		return "", reconcile.HostFault(
			fmt.Errorf("the answer of HAProxy at %s to `%s` broke off after %d bytes", a.url, command, len(answer)),
			"See in its log whether it was stopped meanwhile; it is asked again.")
	}
	return whole, nil
}

func (a address) exchange(ctx context.Context, command string) (string, error) {
	conn, err := outbound.Dialer(0).DialContext(ctx, a.network, a.path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxAnswer {
		return "", errTooLong
	}
	return string(data), nil
}

var errTooLong = fmt.Errorf("the answer is longer than %d MiB", maxAnswer>>20)

// fault says what is wrong at the address, and what mends it.
func (a address) fault(command string, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return reconcile.HostFault(fmt.Errorf("there is no socket of HAProxy at %s", a.url),
			"Start HAProxy, with `stats socket "+a.path+" mode 660 level admin` in the global section of haproxy.cfg.")
	case errors.Is(err, syscall.ECONNREFUSED):
		return reconcile.HostFault(fmt.Errorf("nothing answers at %s: connection refused", a.url),
			"Start HAProxy; `systemctl status haproxy` says why it does not run.")
	case errors.Is(err, fs.ErrPermission):
		return reconcile.HostFault(fmt.Errorf("the agent may not open %s: permission denied", a.url),
			"Give the `stats socket` line of haproxy.cfg a user, group or mode that lets the agent in.")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return reconcile.HostFault(fmt.Errorf("HAProxy at %s has not answered `%s` within %v", a.url, command, a.limit),
			"See whether it hangs, or whether something else listens there.")
	}
	return reconcile.HostFault(fmt.Errorf("HAProxy at %s did not answer `%s`: %w", a.url, command, outbound.Explain(err)),
		"See in its log what became of the connection.")
}
