// Command load asks a server the same things over and over, from so many clients at once, each waiting for its answer
// before it asks again, and prints how many were answered and how long they took, as one JSON object.
//
// A request is a file: over gRPC one encoded message, over HTTP a body of JSON. It is not parsed, and neither is the
// answer; an answer shorter than -expect bytes counts as failed.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

// raw hands bytes through: what is measured is the server, not this program's encoding.
type raw struct{}

func (raw) Name() string { return "proto" }
func (raw) Marshal(v any) ([]byte, error) {
	return *v.(*[]byte), nil
}
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

type ask func(body []byte) (int, error)

type options struct {
	target, method, json, ca, cert, key, name string
	headers, bodies                           list
	clients, connections, expect              int
	seconds, warm                             time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.target, "target", "", "host:port of a gRPC server")
	flag.StringVar(&o.method, "method", "/inference.GRPCInferenceService/ModelInfer", "the gRPC method")
	flag.StringVar(&o.json, "json", "", "URL of an HTTP server to POST to, instead of -target")
	flag.StringVar(&o.ca, "ca", "", "PEM file of who signed the server's certificate; without it the connection is plain")
	flag.StringVar(&o.cert, "cert", "", "PEM file of the client's certificate")
	flag.StringVar(&o.key, "key", "", "PEM file of its key")
	flag.StringVar(&o.name, "name", "", "the server's name in its certificate")
	flag.Var(&o.headers, "header", "`name=value`; may be repeated")
	flag.Var(&o.bodies, "body", "`file` with a request; may be repeated, then they are asked in turn")
	flag.IntVar(&o.clients, "clients", 1, "how many ask at once")
	flag.IntVar(&o.connections, "connections", 8, "over so many connections at most")
	flag.IntVar(&o.expect, "expect", 1, "bytes that an answer has at least")
	flag.DurationVar(&o.seconds, "time", 4*time.Second, "how long it is measured")
	flag.DurationVar(&o.warm, "warm", time.Second, "how long it is asked before that")
	flag.Parse()
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	bodies := make([][]byte, 0, len(o.bodies))
	for _, path := range o.bodies {
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		bodies = append(bodies, body)
	}
	if len(bodies) == 0 {
		return errors.New("give at least one -body")
	}
	asks, err := connect(o)
	if err != nil {
		return err
	}
	begins := time.Now().Add(o.warm)
	ends := begins.Add(o.seconds)
	took := make([][]time.Duration, o.clients)
	failed := make([]int, o.clients)
	var first error
	var once sync.Once
	var all sync.WaitGroup
	for client := range o.clients {
		all.Add(1)
		go func() {
			defer all.Done()
			for at := client; time.Now().Before(ends); at++ {
				began := time.Now()
				size, err := asks[client%len(asks)](bodies[at%len(bodies)])
				if err == nil && size < o.expect {
					err = fmt.Errorf("an answer of %d bytes, %d are expected", size, o.expect)
				}
				if err != nil {
					failed[client]++
					once.Do(func() { first = err })
					time.Sleep(10 * time.Millisecond)
					continue
				}
				if ended := time.Now(); ended.After(begins) && ended.Before(ends) {
					took[client] = append(took[client], ended.Sub(began))
				}
			}
		}()
	}
	all.Wait()
	return report(o, took, failed, first)
}

func report(o *options, took [][]time.Duration, failed []int, first error) error {
	var every []time.Duration
	count := 0
	for client := range took {
		every = append(every, took[client]...)
		count += failed[client]
	}
	sort.Slice(every, func(i, j int) bool { return every[i] < every[j] })
	at := func(share float64) float64 {
		if len(every) == 0 {
			return 0
		}
		return float64(every[min(len(every)-1, int(share*float64(len(every))))].Microseconds()) / 1000
	}
	found := map[string]any{
		"answered": len(every), "failed": count, "per_s": float64(len(every)) / o.seconds.Seconds(),
		"p50_ms": at(0.5), "p99_ms": at(0.99),
	}
	if first != nil {
		found["error"] = first.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// connect gives the ways to ask, one a connection.
func connect(o *options) ([]ask, error) {
	if o.json != "" {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.clients, MaxConnsPerHost: o.clients}}
		return []ask{func(body []byte) (int, error) { return post(client, o.json, body) }}, nil
	}
	security, err := securityOf(o)
	if err != nil {
		return nil, err
	}
	pairs := []string{}
	for _, header := range o.headers {
		name, value, _ := strings.Cut(header, "=")
		pairs = append(pairs, strings.ToLower(name), value)
	}
	around := metadata.AppendToOutgoingContext(context.Background(), pairs...)
	asks := []ask{}
	for range min(o.clients, o.connections) {
		channel, err := grpc.NewClient("passthrough:///"+o.target,
			grpc.WithTransportCredentials(security),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(1<<30)))
		if err != nil {
			return nil, err
		}
		asks = append(asks, func(body []byte) (int, error) {
			var answer []byte
			err := channel.Invoke(around, o.method, &body, &answer)
			return len(answer), err
		})
	}
	return asks, nil
}

func securityOf(o *options) (credentials.TransportCredentials, error) {
	if o.ca == "" {
		return insecure.NewCredentials(), nil
	}
	authority, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate", o.ca)
	}
	settings := &tls.Config{RootCAs: roots, ServerName: o.name, MinVersion: tls.VersionTLS12}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, err
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(settings), nil
}

func post(client *http.Client, url string, body []byte) (int, error) {
	answer, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	read, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %.200s", answer.StatusCode, read)
	}
	return len(read), err
}
