package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"drydock/reconcile"
)

const (
	systemBus   = "unix:path=/run/dbus/system_bus_socket"
	privateBus  = "unix:path=/run/systemd/private" // systemd's own, for root; there without D-Bus too
	ownSocket   = "/systemd/private"
	idleTime    = 2 * time.Minute
	callTime    = 8 * time.Second
	lookAgain   = 100 * time.Millisecond
	pathPrefix  = "unix:path="
	managerName = "org.freedesktop.systemd1"
	managerPath = "/org/freedesktop/systemd1"
)

// bus is one connection to systemd that is kept, made anew when it broke, and
// ended when nobody used it for a while, so that a driver needs no end.
type bus struct {
	addresses []string
	patience  time.Duration

	turn  chan struct{} // holds a token while somebody reads or changes what is below
	link  *link
	users int
	idle  *time.Timer
}

func newBus() *bus {
	return &bus{addresses: []string{systemBus, privateBus}, patience: callTime, turn: make(chan struct{}, 1)}
}

// link is one connection: go-systemd's pair, calls on the one and signals on
// the other.
type link struct {
	*sd.Conn
	raw  []*dbus.Conn
	lost chan struct{} // closed when either has ended
	once sync.Once
}

// join makes one of the pair known.
func (l *link) join(r *dbus.Conn) {
	l.raw = append(l.raw, r)
	context.AfterFunc(r.Context(), func() { l.once.Do(func() { close(l.lost) }) })
}

func (l *link) alive() bool {
	for _, r := range l.raw {
		if !r.Connected() {
			return false
		}
	}
	return true
}

func (l *link) end() {
	for _, r := range l.raw {
		_ = r.Close()
	}
}

// with runs one call on the connection, within b.patience. A call that is not
// answered ends the connection: the next one tries another.
func (b *bus) with(ctx context.Context, call func(ctx context.Context, l *link) error) error {
	l, done, err := b.get(ctx)
	if err != nil {
		return err
	}
	defer done()
	return b.within(ctx, l, call)
}

func (b *bus) within(ctx context.Context, l *link, call func(ctx context.Context, l *link) error) error {
	bounded, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	err := call(bounded, l)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case bounded.Err() != nil:
		l.end()
		return reconcile.HostFault(fmt.Errorf("systemd did not answer within %v", b.patience), "Look at the host: systemctl status hangs there too, if it is systemd itself.")
	}
	if answer := (dbus.Error{}); errors.As(err, &answer) {
		return err
	}
	l.end()
	return reconcile.HostFault(fmt.Errorf("%w: %v", errLost, err), "It is tried again; if that goes on, look at dbus.service on the host.")
}

// errLost says that the connection ended while an answer was awaited.
var errLost = errors.New("the connection to systemd was lost")

// ask is with for calls that change nothing and so may be repeated once.
func (b *bus) ask(ctx context.Context, call func(ctx context.Context, l *link) error) error {
	err := b.with(ctx, call)
	if errors.Is(err, errLost) {
		err = b.with(ctx, call)
	}
	return err
}

// get is the connection, until done is called.
func (b *bus) get(ctx context.Context) (l *link, done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if b.link != nil && !b.link.alive() {
		b.link.end()
		b.link = nil
	}
	if b.link == nil {
		if b.link, err = b.dial(ctx); err != nil {
			b.link = nil
			return nil, nil, err
		}
	}
	if b.idle != nil {
		b.idle.Stop()
	}
	b.users++
	return b.link, b.leave, nil
}

func (b *bus) leave() {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.users--
	if b.users == 0 && b.link != nil {
		b.idle = time.AfterFunc(idleTime, b.close)
	}
}

// close ends the connection, unless somebody uses it.
func (b *bus) close() {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if b.users > 0 || b.link == nil {
		return
	}
	if b.idle != nil {
		b.idle.Stop()
	}
	b.link.end()
	b.link = nil
}

// dial tries one address after the other.
func (b *bus) dial(ctx context.Context) (*link, error) {
	var all []string
	for _, address := range b.addresses {
		l, err := b.connect(ctx, address)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		all = append(all, fmt.Sprintf("%s: %v", strings.TrimPrefix(address, pathPrefix), err))
	}
	return nil, reconcile.HostFault(fmt.Errorf("systemd is not reached (%s)", strings.Join(all, "; ")),
		`The host needs systemd as its PID 1, and D-Bus (apt-get install dbus) or an agent that is root. For a host without systemd there is start "process".`)
}

// connect makes a link. Its handshake is bounded by a deadline on the sockets
// themselves: go-systemd waits in it without one.
func (b *bus) connect(ctx context.Context, address string) (*link, error) {
	path, ok := strings.CutPrefix(address, pathPrefix)
	if !ok {
		return nil, fmt.Errorf("only addresses of the form %s… are known", pathPrefix)
	}
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	var sockets []net.Conn
	l := &link{lost: make(chan struct{})}
	conn, err := sd.NewConnection(func() (*dbus.Conn, error) {
		socket, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		end, _ := ctx.Deadline()
		_ = socket.SetDeadline(end)
		sockets = append(sockets, socket)
		raw, err := handshake(socket, !strings.HasSuffix(path, ownSocket))
		if err == nil {
			l.join(raw)
		}
		return raw, err
	})
	if err == nil && !l.alive() {
		err = errors.New("it ended as soon as it was made")
	}
	if err != nil {
		l.end()
		if errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v", b.patience)
		}
		return nil, err
	}
	for _, s := range sockets {
		_ = s.SetDeadline(time.Time{})
	}
	l.Conn = conn
	return l, nil
}

// handshake makes a D-Bus connection of a socket; systemd's own wants no hello.
func handshake(socket net.Conn, hello bool) (*dbus.Conn, error) {
	raw, err := dbus.NewConn(socket)
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	if err = raw.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err == nil && hello {
		err = raw.Hello()
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return raw, nil
}

// unit is how a unit stands. It loads the unit, and changes nothing.
func (b *bus) unit(ctx context.Context, name string) (unit, error) {
	var p properties
	err := b.ask(ctx, func(ctx context.Context, l *link) (err error) {
		p, err = l.GetAllPropertiesContext(ctx, name)
		return err
	})
	if err != nil {
		return unit{}, refused(ctx, name, err)
	}
	return parse(name, p), nil
}

// reset makes systemd forget how often the unit failed or was started.
func (b *bus) reset(ctx context.Context, name string) error {
	err := b.ask(ctx, func(ctx context.Context, l *link) error { return l.ResetFailedUnitContext(ctx, name) })
	if named(err, managerName+".NoSuchUnit") {
		return nil // it is not loaded, so nothing is remembered
	}
	return refused(ctx, name, err)
}

// hold keeps systemd from forgetting what became of a unit that nothing else
// needs, as it does at once when such a unit has ended, until free is called.
// Over systemd's own socket that cannot be had.
func (b *bus) hold(ctx context.Context, name string) (free func()) {
	call := func(ctx context.Context, method string) error {
		return b.with(ctx, func(ctx context.Context, l *link) error {
			return l.raw[0].Object(managerName, managerPath).CallWithContext(ctx, managerName+".Manager."+method, 0, name).Store()
		})
	}
	if call(ctx, "RefUnit") != nil {
		return func() {}
	}
	return func() { _ = call(context.WithoutCancel(ctx), "UnrefUnit") }
}

func named(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == name
}

// refused puts words to an error that systemd answered with.
func refused(ctx context.Context, name string, err error) error {
	var e dbus.Error
	if err == nil || ctx.Err() != nil || !errors.As(err, &e) {
		return err
	}
	hint := "See systemctl status " + name + " on the host; it is tried again."
	switch e.Name {
	case managerName + ".NoSuchUnit":
		return missing(name)
	case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
		hint = "Run the agent as root, or let polkit allow its user org.freedesktop.systemd1.manage-units for this unit."
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
		hint = "The host needs systemd as its PID 1."
	case managerName + ".ShuttingDown":
		hint = "The host is shutting down; it goes on when it is back."
	}
	return reconcile.HostFault(fmt.Errorf("systemd refuses %s: %w", name, err), hint)
}
