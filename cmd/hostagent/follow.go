package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"drydock/hostagent/api"
	"drydock/reconcile"
)

// followEvery is how often a person who waits for the running agent is told of
// something new. What takes less needs no words.
const followEvery = time.Second

// follow tells a person who waits for the running agent what it is at: what is
// waited for, and then a line each time a service comes to another step. service
// is "" for all. It ends, and has written its last word, when stop returns.
func follow(ctx context.Context, c *api.Client, w io.Writer, what, service string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(followEvery)
		defer tick.Stop()
		said := map[string]string{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var st reconcile.HostStatus
			if c.Status(ctx, &st) != nil {
				continue // there may be none yet, or no more; who waits is told by what it waits for
			}
			if what != "" {
				fmt.Fprintln(w, what)
				what = ""
			}
			for _, s := range st.Services {
				words := ""
				if s.Step != "" && (service == "" || s.Name == service) {
					words = stateWords(s)
				}
				if words != "" && words != said[s.Name] {
					fmt.Fprintf(w, "  %s %s\n", s.Name, words)
				}
				said[s.Name] = words
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
