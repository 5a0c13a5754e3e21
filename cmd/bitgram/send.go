package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/wire"
)

// sendOptions holds the flags of send.
type sendOptions struct {
	subject, ttl string
	attach       []string
	terms        api.Terms
	dry, queue   bool
}

func (a *app) sendCommand() *cobra.Command {
	var o sendOptions
	var most int64
	c := &cobra.Command{
		Use:   "send TO[,TO…] [FILE|-]",
		Short: "Send a message",
		Long: "Sends FILE, or standard input, to one or more recipients. A recipient is an address, an npub or a\n" +
			"public key. Each one gets a separate message, sealed and paid for separately.\n\n" +
			"The command returns when agents hold the message and its payment is on the way; the daemon does the\n" +
			"rest. Ctrl-C while it waits does not take the message back; 'bitgram cancel' does.",
		Example: "  echo 'Dear Bob' | bitgram send ADDRESS --subject hello\n" +
			"  bitgram send ADDRESS photo.jpg --dry-run\n" +
			"  bitgram send ADDRESS1,ADDRESS2 letter.txt --attach photo.jpg --ttl 14d",
		Args: usage(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if o.terms.Days, err = days(o.ttl); err != nil {
				return err
			}
			o.terms.Subject, o.terms.MaxSat = o.subject, wire.Sat(most)
			_, keys, err := a.keys()
			if err != nil {
				return err
			}
			recipients := strings.Split(args[0], ",")
			for _, to := range recipients {
				if _, err := wire.ParseRecipient(keys.Network, to); err != nil {
					return err
				}
			}
			client, err := a.dial()
			if err != nil {
				return err
			}
			return a.send(c.Context(), client, recipients, append(args[1:], "-")[0], &o)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.subject, "subject", "s", "", "subject line")
	f.StringSliceVar(&o.attach, "attach", nil, "files to attach (comma-separated, or repeat the flag)")
	f.StringVar(&o.ttl, "ttl", "7d", "how long agents store the message")
	f.IntVar(&o.terms.Agents, "agents", 3, "number of agents that store the message")
	f.BoolVar(&o.terms.OneOfMany, "one-of-many", false, "freeze one output for all agents instead of one for each")
	f.Int64Var(&most, "max-sat", 100_000, "most that the message may cost, in sat, fees included")
	f.BoolVar(&o.dry, "dry-run", false, "show the cost and send nothing")
	f.BoolVar(&o.queue, "no-wait", false, "return as soon as the daemon has the message")
	return c
}

// body returns a function that opens the message's body, once for each recipient,
// with its size in bytes (0 if unknown) and its file name. Standard input is read
// into memory if it is needed more than once.
func (a *app) body(path string, many bool) (open func() (io.ReadCloser, error), size uint64, name string, err error) {
	if path != "-" {
		f, size, err := openInput(path)
		if err != nil {
			return nil, 0, "", err
		}
		f.Close()
		return func() (io.ReadCloser, error) {
			f, _, err := openInput(path)
			return f, err
		}, size, filepath.Base(path), nil
	}
	if !many {
		return func() (io.ReadCloser, error) { return io.NopCloser(a.in), nil }, 0, "", nil
	}
	const most = 64 << 20
	raw, err := io.ReadAll(io.LimitReader(a.in, most+1))
	if err != nil {
		return nil, 0, "", fmt.Errorf("%w: %w", errInput, err)
	}
	if len(raw) > most {
		return nil, 0, "", fmt.Errorf("%w: more than 64 MiB on standard input for several recipients: pass a file instead", errInput)
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }, uint64(len(raw)), "", nil
}

func (a *app) send(ctx context.Context, client *api.Client, recipients []string, path string, o *sendOptions) error {
	open, size, name, err := a.body(path, len(recipients) > 1 || o.dry)
	if err != nil {
		return err
	}
	o.terms.Filename = name
	total := size
	for _, p := range o.attach {
		f, n, err := openInput(p)
		if err != nil {
			return err
		}
		f.Close()
		total += n
	}
	if o.dry {
		return a.estimate(ctx, client, recipients, total, o)
	}
	var done []api.Message
	for _, to := range recipients {
		o.terms.To = to
		m, err := a.sendOne(ctx, client, open, size, o)
		if err != nil {
			if len(recipients) > 1 {
				err = fmt.Errorf("to %s, after %d of %d recipients: %w", to, len(done), len(recipients), err)
			}
			return err
		}
		done = append(done, m)
		if len(recipients) > 1 {
			a.print.line("message", m, func(w io.Writer) { printSent(w, &m) })
		}
	}
	cost := wire.Sat(0)
	for _, m := range done {
		cost += m.Cost
	}
	a.print.summary(struct {
		api.Message
		Cost     wire.Sat      `json:"cost_sat"` // of all
		Messages []api.Message `json:"messages"`
	}{done[0], cost, done}, func(w io.Writer) {
		if len(done) == 1 {
			printSent(w, &done[0])
		} else {
			fmt.Fprintf(w, "%s, %v in total.\n", plural(len(done), "message"), cost)
		}
	})
	return nil
}

func printSent(w io.Writer, m *api.Message) {
	fmt.Fprintf(w, "%s  %s  to %s\n", m.ID, m.State, m.To)
	if m.Funding != "" {
		hold := plural(len(m.Agents), "agent") + " hold"
		if len(m.Agents) == 1 {
			hold += "s"
		}
		fmt.Fprintf(w, "  %s it; %v are on the way to them in %s\n", hold, m.Cost, m.Funding)
	}
}

func (a *app) sendOne(ctx context.Context, client *api.Client, open func() (io.ReadCloser, error), size uint64, o *sendOptions) (m api.Message, err error) {
	body, err := open()
	if err != nil {
		return m, err
	}
	defer body.Close()
	var files []api.File
	for _, p := range o.attach {
		f, _, err := openInput(p)
		if err != nil {
			return m, err
		}
		defer f.Close()
		files = append(files, api.File{Name: filepath.Base(p), Body: f})
	}
	if m, err = client.Send(ctx, o.terms, size, a.watch("encrypting", body, size), files...); err != nil || o.queue {
		return m, maybe(ctx, err)
	}
	id := m.ID
	if m, err = a.follow(ctx, client, id); ctx.Err() != nil {
		err = fmt.Errorf("%w: message %s is still being sent", errGoesOn, id)
	}
	return m, err
}

// errGoesOn is returned when waiting for a message is interrupted; the daemon goes
// on sending it.
var errGoesOn = errors.New("interrupted while waiting")

// follow waits until the payment of a sent message is published, or the message
// has failed.
func (a *app) follow(ctx context.Context, client *api.Client, id string) (m api.Message, err error) {
	done := false
	look := func() {
		m, err = client.Message(ctx, id)
		switch {
		case err != nil:
			done = true
		case m.State == "failed":
			done, err = true, &failure{m.FailedBy, m.Failure}
		case m.Phase == deal.SenderPublished.String() || m.State != "queued":
			done = true
		}
	}
	if lost := a.until(ctx, client, about(func(e api.Message) bool { return e.ID == id && e.Direction == "sent" }), func() bool {
		look()
		return done
	}); !done {
		err = lost
	}
	return m, err
}

func (a *app) estimate(ctx context.Context, client *api.Client, recipients []string, size uint64, o *sendOptions) error {
	o.terms.To = recipients[0]
	e, err := client.Estimate(ctx, o.terms, size)
	if err != nil {
		return err
	}
	n := wire.Sat(len(recipients))
	a.print.summary(struct {
		api.Estimate
		Recipients int      `json:"recipients"`
		Cost       wire.Sat `json:"cost_sat"`
	}{e, len(recipients), n * e.Total}, func(w io.Writer) {
		fmt.Fprintf(w, "About %v for %s and %s: %v frozen for %s and %v for miners", n*e.Total, plural(size, "byte"), o.ttl, n*e.Frozen, plural(len(e.Agents), "agent"), n*e.Fee)
		if n > 1 {
			fmt.Fprintf(w, ", for %d messages in total", n)
		}
		fmt.Fprintf(w, ".\nOne agent is paid out of the frozen amount, and the rest comes back.\nNothing was sent; the wallet holds %v.\n", e.Balance)
	})
	return nil
}
