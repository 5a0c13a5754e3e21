package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) statusCommand() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use:   "status [ID]",
		Short: "Show the state of a message, or of the daemon",
		Long: "Shows the state of a message or, without an ID, of the daemon. With --wait and without an ID, it waits\n" +
			"for the last message that was sent.",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			if len(args) == 0 && wait {
				list, _, err := client.List(c.Context(), "sent", 1)
				if err != nil {
					return err
				}
				if len(list) == 0 {
					return fmt.Errorf("%w: no message was sent", delivery.ErrNoMessage)
				}
				args = []string{list[0].ID}
			}
			if len(args) == 1 {
				m, err := client.Message(c.Context(), args[0])
				if wait && err == nil {
					if lost := a.until(c.Context(), client, about(func(e api.Message) bool { return e.ID == m.ID }), func() bool {
						m, err = client.Message(c.Context(), m.ID)
						return err != nil || m.Final()
					}); lost != nil {
						return lost
					}
				}
				return a.oneMessage(m, err)
			}
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			a.print.summary(s, func(w io.Writer) { printStatus(w, &s) })
			return nil
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until the message is delivered, refunded or failed")
	return c
}

func printStatus(w io.Writer, s *api.Status) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "address\t%s\n", s.Address)
	chain := fmt.Sprintf("block %d", s.Chain.Height)
	switch {
	case s.Chain.Error != "":
		chain += ": " + s.Chain.Error
	case !s.Chain.Synced:
		chain += ", catching up"
	}
	fmt.Fprintf(t, "%s\t%s\n", s.Network, chain)
	fmt.Fprintf(t, "DHT\t%s, %s known\n", map[bool]string{true: "joined", false: "not joined"}[s.Joined], plural(s.Peers, "peer"))
	fmt.Fprintf(t, "wallet\t%v", s.Balance.Spendable)
	for _, p := range []struct {
		name string
		sat  wire.Sat
	}{{"locked", s.Balance.Locked}, {"pending", s.Balance.Pending}, {"immature", s.Balance.Immature}} {
		if p.sat != 0 {
			fmt.Fprintf(t, ", %v %s", p.sat, p.name)
		}
	}
	fmt.Fprintln(t)
	if g := s.Agent; g != nil {
		fmt.Fprintf(t, "agent\t%s, %s; earned %v, %v pending\n", plural(g.Messages, "message"), plural(g.Bytes, "byte"), g.Earned, g.Pending)
		for _, l := range s.Listen {
			fmt.Fprintf(t, "\t%s\n", l)
		}
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(t, "WARNING\t%s\n", printable(warning.Message))
	}
	t.Flush()
}

// oneMessage ends a command with a message as its result.
func (a *app) oneMessage(m api.Message, err error) error {
	if err != nil {
		return err
	}
	a.print.summary(m, func(w io.Writer) { printMessage(w, &m) })
	return nil
}

func printMessage(w io.Writer, m *api.Message) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, text string) {
		if text != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, printable(text))
		}
	}
	row("message", m.ID)
	row("state", fmt.Sprintf("%s (%s)", m.State, m.Phase))
	row("from", m.From)
	row("to", m.To)
	row("subject", m.Subject)
	row("file", m.Filename)
	row("bytes", fmt.Sprint(m.Bytes))
	if m.Created != 0 {
		row("sent", time.Unix(m.Created, 0).Format(time.RFC1123))
	}
	for _, g := range m.Agents {
		row("agent", g)
	}
	if m.Cost != 0 {
		row("cost", fmt.Sprintf("at most %v", m.Cost))
	}
	row("funding", m.Funding)
	for _, c := range m.Claims {
		row("claim", c)
	}
	row("refund", m.Refund)
	if m.Rest != 0 {
		row("left", fmt.Sprintf("%v, not worth the fee of a refund", m.Rest))
	}
	if m.Expiry != 0 && !m.Final() {
		row("refund from", fmt.Sprintf("block %d", m.Expiry))
	}
	if m.Direction == "sent" && m.Acked {
		row("receipt", "signed by the recipient ('bitgram proof' exports it)")
	}
	row("failure", m.Failure)
	t.Flush()
}
