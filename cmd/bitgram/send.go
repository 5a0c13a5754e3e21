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

// sendOptions are the flags of send.
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
		Long: "Sends FILE, or what comes on standard input, to an address (a public key or npub works too), or to\n" +
			"several. Each recipient gets a message of its own, sealed and paid for separately.\n\n" +
			"It returns once agents hold the message and its payment is on the way; the daemon sees to the rest.\n" +
			"Ctrl-C while it waits does not take the message back: 'bitgram cancel' does.",
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
	f.StringVarP(&o.subject, "subject", "s", "", "its subject")
	f.StringSliceVar(&o.attach, "attach", nil, "files to go with it")
	f.StringVar(&o.ttl, "ttl", "7d", "how long it is kept for the recipient")
	f.IntVar(&o.terms.Agents, "agents", 3, "how many agents keep it")
	f.BoolVar(&o.terms.OneOfMany, "one-of-many", false, "one frozen output for all agents instead of one each")
	f.Int64Var(&most, "max-sat", 100_000, "what it may cost at most, fees included")
	f.BoolVar(&o.dry, "dry-run", false, "say what it would cost, and send nothing")
	f.BoolVar(&o.queue, "no-wait", false, "return as soon as the daemon has it")
	return c
}

// body opens the body for each recipient: a file anew, standard input from
// memory or a temporary file.
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
		return nil, 0, "", fmt.Errorf("%w: over 64 MiB on standard input for several recipients: give a file", errInput)
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
				err = fmt.Errorf("to %s, after %d of %d: %w", to, len(done), len(recipients), err)
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
			fmt.Fprintf(w, "%d messages, %v in all.\n", len(done), cost)
		}
	})
	return nil
}

func printSent(w io.Writer, m *api.Message) {
	fmt.Fprintf(w, "%s  %s  to %s\n", m.ID, m.State, m.To)
	if m.Funding != "" {
		fmt.Fprintf(w, "  %d agents hold it; %v are on the way to them in %s\n", len(m.Agents), m.Cost, m.Funding)
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
		err = fmt.Errorf("%w: message %s goes on", errGoesOn, id)
	}
	return m, err
}

// errGoesOn: the wait was interrupted, not the message.
var errGoesOn = errors.New("interrupted while waiting")

// follow waits until a message that was sent is paid for, or has failed.
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
		fmt.Fprintf(w, "About %v for %d bytes and %s: %v frozen for %d agents and %v for miners", n*e.Total, size, o.ttl, n*e.Frozen, len(e.Agents), n*e.Fee)
		if n > 1 {
			fmt.Fprintf(w, ", for %d messages together", n)
		}
		fmt.Fprintf(w, ".\nOf what is frozen, one agent is paid and the rest comes back. Nothing was sent; the wallet holds %v.\n", e.Balance)
	})
	return nil
}
