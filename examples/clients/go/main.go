// Calls the platform from Go: lists the agents; with an agent and an input, runs it and follows the run to its end.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/oauth"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	orchestrator "tiation.example/client/gen/tiation/orchestrator/v1"
)

const tenant = "tenants/default"

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 && len(os.Args) != 5 {
		log.Fatal("usage: client HOME ADDRESS [AGENT INPUT]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	connection, err := dial(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	if len(os.Args) == 3 {
		err = listAgents(ctx, connection)
	} else {
		err = run(ctx, connection, os.Args[3], os.Args[4])
	}
	if err != nil {
		log.Fatal(err)
	}
}

// dial connects to the gateway with the certificate and the token that lie in the platform's home.
func dial(home, address string) (*grpc.ClientConn, error) {
	transport, err := credentials.NewClientTLSFromFile(filepath.Join(home, "ca.pem"), "")
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(home, "token"))
	if err != nil {
		return nil, err
	}
	bearer := oauth.TokenSource{TokenSource: oauth2.StaticTokenSource(
		&oauth2.Token{AccessToken: strings.TrimSpace(string(token))})}
	return grpc.NewClient(address, grpc.WithTransportCredentials(transport), grpc.WithPerRPCCredentials(bearer))
}

// listAgents prints every agent's name, page by page.
func listAgents(ctx context.Context, connection *grpc.ClientConn) error {
	agents := orchestrator.NewAgentServiceClient(connection)
	request := &orchestrator.ListAgentsRequest{Parent: tenant, PageSize: 50}
	for {
		page, err := agents.ListAgents(ctx, request)
		if err != nil {
			return err
		}
		for _, agent := range page.Agents {
			fmt.Println(agent.Name)
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			return nil
		}
	}
}

// run starts a run and prints its events, then its output.
func run(ctx context.Context, connection *grpc.ClientConn, agent, input string) error {
	given := &structpb.Value{}
	if err := protojson.Unmarshal([]byte(input), given); err != nil {
		return fmt.Errorf("the input is no JSON: %w", err)
	}
	runs := orchestrator.NewRunServiceClient(connection)
	created, err := runs.CreateRun(ctx, &orchestrator.CreateRunRequest{
		Parent: tenant + "/agents/" + agent,
		Run:    &orchestrator.Run{Input: given},
	})
	if err != nil {
		return err
	}
	events, err := runs.StreamRunEvents(ctx, &orchestrator.StreamRunEventsRequest{Name: created.Name})
	if err != nil {
		return err
	}
	for {
		answer, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Println(answer.Event.Sequence, answer.Event.Type, answer.Event.Step)
		if answer.Event.Type == orchestrator.RunEvent_RUN_SUCCEEDED {
			fmt.Println(protojson.Format(answer.Event.Result))
		}
	}
}
