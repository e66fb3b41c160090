package main

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A server that goes on after its answer may repeat what it was once sent: no
// line of that reaches the agent's output.
func TestWhatAServerSaysOutOfTurnIsNotRepeated(t *testing.T) {
	secure := httptest.NewTLSServer(nil) // for its certificate
	defer secure.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", secure.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	spoken := make(chan struct{}, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1<<10))
			fmt.Fprint(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\ns3cret-that-was-sent")
			spoken <- struct{}{}
		}
	}()
	dir := t.TempDir()
	config, ca := filepath.Join(dir, "hostagent.hcl"), filepath.Join(dir, "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("environment = \"prod\"\nstate = %q\nsource {\n  url = \"https://%s/x\"\n  ca = %q\n}\n", filepath.Join(dir, "state"), l.Addr(), ca)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "once", "--config", config)
	cmd.Env = append(os.Environ(), asAgent+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || len(spoken) == 0 {
		t.Fatalf("the rig: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "s3cret") {
		t.Errorf("it is repeated:\n%s", out)
	}
}
