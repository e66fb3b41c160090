// Service is what tests deploy on real hosts: a small web server that knows its
// version by the release it stands in, finishes what is under way on SIGTERM,
// and tells systemd when it is ready.
//
//	ADDRESS   where it listens, such as 127.0.0.1:8080
//	ROOT      the installed tree; default: where its own binary stands
//	DATABASE  a PostgreSQL database whose table orders must have the column
//	          v<version>, dots as underscores: the release's own migration
//
// A version that ends in "bad" answers every request with 503; a request for
// /forever lasts until its client leaves, or the service must.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// requestTime is what a request takes, so that some are always under way.
const requestTime = 5 * time.Millisecond

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	version, err := release()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", os.Getenv("ADDRESS"))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: answer(ctx, version), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	if err := ready(); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(ctx)
}

var inRelease = regexp.MustCompile(`/releases/(.+)-[0-9a-f]{12}(?:/|$)`)

// release is the version in the name of the release's directory.
func release() (string, error) {
	root := os.Getenv("ROOT")
	if root == "" {
		exe, err := os.Executable()
		if err != nil {
			return "", err
		}
		root = exe
	}
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}
	m := inRelease.FindStringSubmatch(real)
	if m == nil {
		return "", fmt.Errorf("%s stands in no release", real)
	}
	return m[1], nil
}

func answer(life context.Context, version string) http.Handler {
	// A connection a request is enough here, and hides nothing behind a pool.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(requestTime)
		if r.URL.Path == "/forever" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-life.Done():
			}
			return
		}
		if strings.HasSuffix(version, "bad") {
			http.Error(w, version+" is broken", http.StatusServiceUnavailable)
			return
		}
		if url := os.Getenv("DATABASE"); url != "" {
			if err := ask(r.Context(), url, version); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		fmt.Fprintln(w, version)
	})
}

// ask reads the column that the release's own migration made.
func ask(ctx context.Context, url, version string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	column := "v" + strings.ReplaceAll(version, ".", "_")
	_, err = conn.Exec(ctx, "SELECT "+pgx.Identifier{column}.Sanitize()+" FROM orders LIMIT 1")
	return err
}

// ready tells systemd, if it wants to know.
func ready() error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte("READY=1"))
	return errors.Join(err, conn.Close())
}
