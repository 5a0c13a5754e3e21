package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) inboxCommand() *cobra.Command { return a.listCommand("inbox", "List received messages") }

// listCommand lists the messages of a box of the API: "inbox" or "sent".
func (a *app) listCommand(box, short string) *cobra.Command {
	var watch, wait bool
	var limit int
	c := &cobra.Command{
		Use:   box,
		Short: short,
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			list, total, err := client.List(c.Context(), box, limit)
			if err != nil {
				return err
			}
			if wait {
				settled := func(m api.Message) bool { return m.Final() || m.State == "stored" }
				if lost := a.until(c.Context(), client, about(settled), func() bool {
					list, total, err = client.List(c.Context(), box, limit)
					return err != nil || len(list) > 0 && !slices.ContainsFunc(list, func(m api.Message) bool { return !settled(m) })
				}); lost != nil || err != nil {
					return errors.Join(lost, err)
				}
			}
			if watch {
				return a.watchMessages(c.Context(), client, box, limit)
			}
			a.print.summary(struct {
				Messages []api.Message `json:"messages"`
				Total    int           `json:"total"`
			}{list, total}, func(w io.Writer) {
				if total == 0 {
					fmt.Fprintln(w, "No messages.")
				}
				printList(w, list)
				if len(list) < total {
					fmt.Fprintf(w, "… and %d older; --limit shows more.\n", total-len(list))
				}
			})
			return nil
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until there is a message and none is still arriving")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "keep running and show each change until Ctrl-C")
	c.Flags().IntVar(&limit, "limit", 100, "number of messages to show, newest first")
	return c
}

func printList(w io.Writer, list []api.Message) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range list {
		printLine(t, &list[i])
	}
	t.Flush()
}

func printLine(w io.Writer, m *api.Message) {
	id, who, when := m.ID, m.From, ""
	if id == "" {
		id = "(arriving)"
	}
	if m.Direction == "sent" {
		who = m.To
	}
	if m.Created != 0 {
		when = time.Unix(m.Created, 0).Format("2006-01-02 15:04")
	}
	state := m.State
	if m.Direction == "received" && m.State == "delivered" {
		state = "here"
	}
	subject := m.Subject
	if subject == "" {
		subject = m.Filename
	}
	if m.State == "failed" {
		subject = m.Failure
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%d B\t%s\t%s\n", id, state, when, m.Bytes, short(who), printable(subject))
}

// watchMessages shows the messages, and then every change. The daemon ends the
// stream of a reader that is too slow; then the list is read again.
func (a *app) watchMessages(ctx context.Context, client *api.Client, box string, limit int) error {
	shown := map[string]string{}
	show := func(m api.Message) {
		key := cmp.Or(m.ID, m.Funding)
		raw, err := json.Marshal(m)
		if err != nil || key != "" && shown[key] == string(raw) {
			return
		}
		shown[key] = string(raw)
		a.print.line("message", m, func(w io.Writer) { printLine(w, &m) })
	}
	direction := map[string]string{"inbox": "received", "sent": "sent"}[box]
	for {
		heard := false
		var lost error
		look := func() {
			list, _, err := client.List(ctx, box, limit) // with their subjects
			for _, m := range slices.Backward(list) {
				show(m)
			}
			lost = err
		}
		err := client.Events(ctx, func() {
			heard = true
			look()
		}, func(e any) bool {
			if m, ok := e.(api.Message); ok && m.Direction == direction {
				look()
			}
			return lost == nil
		})
		if ctx.Err() != nil { // as it was told to end
			a.print.summary(struct{}{}, func(io.Writer) {})
			return nil
		}
		if !heard || lost != nil {
			return cmp.Or(lost, err)
		}
	}
}
