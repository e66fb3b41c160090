package reconcile

import (
	"context"
	"fmt"
	"sync"
)

// HostSlots are the slots of one host: so many services out at once.
type HostSlots struct {
	most int
	mu   sync.Mutex
	out  map[string]int
}

// NewHostSlots allows most services out of rotation at once.
func NewHostSlots(most int) *HostSlots {
	return &HostSlots{most: most, out: map[string]int{}}
}

// Take as Slots says; it never fails.
func (h *HostSlots) Take(_ context.Context, service string, force bool) (func(), Gate, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !force && len(h.out) >= h.most {
		return nil, Gate{
			Name: "slot", Missing: sortedKeys(h.out),
			Reason: fmt.Sprintf("%d services of this host are out of rotation already (parallel = %d)", len(h.out), h.most),
		}, nil
	}
	h.out[service]++
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.out[service]--; h.out[service] <= 0 {
			delete(h.out, service)
		}
	}), Gate{}, nil
}
