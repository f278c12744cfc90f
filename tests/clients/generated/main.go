// Calls a service with the client that OpenAPI Generator makes from the OpenAPI document: `main URL KEY`.
// `test_generators.py` builds and runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"example.com/generated/discue"
)

func main() {
	configuration := discue.NewConfiguration()
	configuration.Servers = discue.ServerConfigurations{{URL: os.Args[1]}}
	client := discue.NewAPIClient(configuration)
	keys := map[string]discue.APIKey{"ApiKey": {Key: os.Args[2]}}
	ctx := context.WithValue(context.Background(), discue.ContextAPIKeys, keys)
	if err := call(ctx, client); err != nil {
		var response *discue.GenericOpenAPIError
		if errors.As(err, &response) {
			fmt.Fprintf(os.Stderr, "%s\n", response.Body())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func call(ctx context.Context, client *discue.APIClient) error {
	queueBody := discue.NewQueueBody()
	queueBody.SetAlias("orders")
	queueBody.SetOrdered(true)
	queue, _, err := client.QueuesAPI.CreateQueue(ctx).QueueBody(*queueBody).Execute()
	if err != nil {
		return fmt.Errorf("create a queue: %w", err)
	}
	listenerBody := discue.NewNewListener()
	listenerBody.SetNotifyUrl("https://example.com/orders")
	listenerBody.SetTimeout(5)
	listener, _, err := client.ListenersAPI.CreateQueueListener(ctx, "orders").NewListener(*listenerBody).Execute()
	if err != nil {
		return fmt.Errorf("create a listener: %w", err)
	}
	if listener.Listener.GetNotifyUrl() != "https://example.com/orders" {
		return fmt.Errorf("the listener has the URL %q", listener.Listener.GetNotifyUrl())
	}

	delivered := time.Now().Add(24 * time.Hour).UnixMilli()
	messageBody := discue.NewMessageBody()
	messageBody.SetData(map[string]interface{}{"order": 17})
	messageBody.SetKey("customer-7")
	messageBody.SetDeliverAt(delivered)
	published, _, err := client.MessagesAPI.CreateQueueMessage(ctx, queue.Queue.Id).MessageBody(*messageBody).Execute()
	if err != nil {
		return fmt.Errorf("publish a message: %w", err)
	}
	read, _, err := client.MessagesAPI.GetQueueMessage(ctx, queue.Queue.Id, published.Message.Id).Execute()
	if err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	message := read.Message
	age := time.Since(time.UnixMilli(message.CreatedAt))
	if age < -time.Minute || age > time.Minute {
		return fmt.Errorf("the message was created at %d", message.CreatedAt)
	}
	if message.GetDeliverAt() != delivered || message.GetKey() != "customer-7" {
		return fmt.Errorf("the message is for %q at %d", message.GetKey(), message.GetDeliverAt())
	}
	data, isObject := message.GetData().(map[string]interface{})
	if !isObject || data["order"] != 17.0 {
		return fmt.Errorf("the message has the data %v", message.GetData())
	}

	messages, _, err := client.MessagesAPI.ListQueueMessages(ctx, "orders").CreatedAfter(message.CreatedAt - 1).Execute()
	if err != nil {
		return fmt.Errorf("list messages: %w", err)
	}
	if len(messages.Messages) != 1 || messages.Messages[0].Id != message.Id || messages.Messages[0].GetSize() != 12 {
		return fmt.Errorf("the messages are %v", messages.Messages)
	}
	queues, _, err := client.QueuesAPI.ListQueues(ctx).Execute()
	if err != nil {
		return fmt.Errorf("list queues: %w", err)
	}
	if len(queues.Queues) != 2 || queues.Queues[0].Id != queue.Queue.Id {
		return fmt.Errorf("the queues are %v", queues.Queues)
	}

	_, response, err := client.QueuesAPI.GetQueue(ctx, "invoices").Execute()
	var refusal *discue.GenericOpenAPIError
	if !errors.As(err, &refusal) || response.StatusCode != http.StatusNotFound {
		return fmt.Errorf("a queue that does not exist returns %v", err)
	}
	if problem, isProblem := refusal.Model().(discue.Problem); !isProblem || problem.Code != "not_found" {
		return fmt.Errorf("the error is %v", refusal.Model())
	}
	return nil
}
