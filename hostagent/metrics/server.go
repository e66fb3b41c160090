package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /metrics, /healthz and /readyz. The latter two are 200 "ok",
// or 503 and why not.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, Timeout: 10 * time.Second, ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /healthz", says(m.agent.Healthy))
	mux.HandleFunc("GET /readyz", says(m.agent.Ready))
	return mux
}

func says(ask func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := ask(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, err)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	}
}

// Server answers on one address. A client that is slow, or sends without end,
// is cut off and costs nobody else anything.
type Server struct {
	http     http.Server
	listener net.Listener
}

// Listen takes the address (host:port).
func Listen(ctx context.Context, address string, h http.Handler) (*Server, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w; change `listen` in hostagent.hcl, or stop what has the port", err)
	}
	return &Server{listener: l, http: http.Server{
		Handler: http.MaxBytesHandler(h, 1<<10), MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 60 * time.Second,
	}}, nil
}

// Addr is the address taken, which tells the port where it was 0.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Serve answers until Close; its error is nil then.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// Close ends the requests under way, those that last longer than ctx hard.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	_ = s.listener.Close() // where Serve was never called
	return err
}
