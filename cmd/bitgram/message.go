package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/wire"
)

// days reads a time of storage: 7d, 36h, 2w.
func days(s string) (float64, error) {
	units := map[byte]float64{'h': 1. / 24, 'd': 1, 'w': 7}
	var n float64
	if s != "" && units[s[len(s)-1]] > 0 {
		if _, err := fmt.Sscanf(s[:len(s)-1], "%g", &n); err == nil && n > 0 && fmt.Sprintf("%g", n) == s[:len(s)-1] {
			return n * units[s[len(s)-1]], nil
		}
	}
	return 0, fmt.Errorf("%w: --ttl %q: say 7d, 36h or 2w", errUsage, s)
}

// errGoesOn: the wait was interrupted, not the message.
var errGoesOn = errors.New("interrupted while waiting")

// failure is why a message or a bank failed, with the code of the failure.
type failure struct {
	by  api.Code
	why string
}

// Error implements error.
func (f *failure) Error() string { return f.why }

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

// watch shows how far r is read.
func (a *app) watch(what string, r io.Reader, total uint64) io.Reader {
	return &watched{r: r, tell: func(done uint64) { a.print.progress(what, done, total) }}
}

type watched struct {
	r    io.Reader
	done uint64
	tell func(uint64)
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	w.done += uint64(n)
	w.tell(w.done)
	return n, err
}

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

// about is what concerns whoever waits for events of one kind.
func about[E any](f func(E) bool) func(any) bool {
	return func(e any) bool {
		v, ok := e.(E)
		return ok && f(v)
	}
}

// until looks at once, and again whenever something changes that concerns it,
// until look says that it is done.
func (a *app) until(ctx context.Context, client *api.Client, concerns func(any) bool, look func() bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for done, heard := false, false; ; {
		// A stream that ends may have been too slow for all that happened: as long
		// as a new one opens, nothing is lost.
		heard = false
		err := client.Events(ctx, func() {
			heard = true
			if done = look(); done { // before anybody listened
				cancel()
			}
		}, func(e any) bool {
			switch e := e.(type) {
			case api.Progress:
				a.print.progress(e.What, e.Done, e.Total)
			case api.Tip:
				done = look()
			default:
				if concerns(e) {
					done = look()
				}
			}
			return !done
		})
		if done {
			return nil
		}
		if !heard || ctx.Err() != nil {
			return err
		}
	}
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
					fmt.Fprintf(w, "… and %d older ones; --limit shows more.\n", total-len(list))
				}
			})
			return nil
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "return once there is a message and none is on its way any more")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on and show each change until Ctrl-C")
	c.Flags().IntVar(&limit, "limit", 100, "how many to show, the newest first")
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
		id = "(being found)"
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

// short is an address that a line has room for.
func short(address string) string {
	if len(address) > 20 {
		return address[:12] + "…" + address[len(address)-6:]
	}
	return address
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// errBinary: a terminal is no place for it.
var errBinary = errors.New("this is no text")

// showText copies text, without what a terminal would act on: errBinary where it
// begins like something else.
func showText(w io.Writer, r io.Reader) (n int64, err error) {
	in, out := bufio.NewReaderSize(r, 4096), bufio.NewWriter(w)
	start, _ := in.Peek(4096)
	for len(start) > 0 {
		c, size := utf8.DecodeRune(start)
		if c == 0 || c == utf8.RuneError && size == 1 && len(start) > utf8.UTFMax {
			return 0, errBinary
		}
		start = start[size:]
	}
	for {
		c, size, err := in.ReadRune()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return n, errors.Join(err, out.Flush())
		}
		n += int64(size)
		s := string(c)
		if c != '\n' && c != '\t' {
			s = printable(s)
		}
		if c == '\r' {
			s = ""
		}
		if _, err := out.WriteString(s); err != nil {
			return n, err
		}
	}
}

// printable takes out of a stranger's text what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '·'
		}
		return r
	}, s)
}

// watchMessages shows what there is, and then every change. A stream that ends
// may have been too slow for all that happened: then it looks again.
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
		if !heard || lost != nil || ctx.Err() != nil {
			return cmp.Or(lost, err)
		}
	}
}

func (a *app) statusCommand() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use:   "status [ID]",
		Short: "How a message stands, or the daemon",
		Args:  usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
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
	c.Flags().BoolVar(&wait, "wait", false, "return once the message is delivered, refunded or failed")
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
	fmt.Fprintf(t, "DHT\t%s, %d peers known\n", map[bool]string{true: "joined", false: "not joined"}[s.Joined], s.Peers)
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
		fmt.Fprintf(t, "agent\t%d messages, %d bytes; earned %v, %v to come\n", g.Messages, g.Bytes, g.Earned, g.Pending)
		for _, l := range s.Listen {
			fmt.Fprintf(t, "\t%s\n", l)
		}
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(t, "WARNING\t%s\n", printable(warning.Message))
	}
	t.Flush()
}

// oneMessage shows a message as the command's outcome.
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
		row("cost", fmt.Sprintf("%v at most", m.Cost))
	}
	row("funding", m.Funding)
	for _, c := range m.Claims {
		row("claim", c)
	}
	row("refund", m.Refund)
	if m.Expiry != 0 && !m.Final() {
		row("refund from", fmt.Sprintf("block %d", m.Expiry))
	}
	if m.Direction == "sent" && m.Acked {
		row("receipt", "signed by the recipient ('bitgram proof' exports it)")
	}
	row("failure", m.Failure)
	t.Flush()
}

func (a *app) readCommand() *cobra.Command {
	var out, dir string
	var whole, now bool
	c := &cobra.Command{
		Use:   "read [ID]",
		Short: "Read a message",
		Long: "Writes what was sent: for a message made from one file, that file's exact bytes. With attachments,\n" +
			"the message itself; --attachments saves the rest. --mime writes the whole MIME message.\n" +
			"An ID may be cut short to its first digits; without one, it is the newest message that is here.\n" +
			"A message that is still on its way is waited for.",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			for _, path := range []string{out, dir} {
				if err := checkOutput(path, path == dir && dir != ""); err != nil {
					return err
				}
			}
			if len(args) == 0 {
				list, _, err := client.List(c.Context(), "inbox", 1000)
				if err != nil {
					return err
				}
				i := slices.IndexFunc(list, func(m api.Message) bool { return m.State == "delivered" })
				if i < 0 {
					return fmt.Errorf("%w: the inbox is empty", node.ErrNoMessage)
				}
				args = []string{list[i].ID}
			}
			return a.read(c.Context(), client, args[0], out, dir, whole, now)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "write to this file instead of standard output")
	c.Flags().StringVar(&dir, "attachments", "", "save attachments into this directory")
	c.Flags().BoolVar(&now, "no-wait", false, "fail where the message is still on its way, instead of waiting for it")
	c.Flags().BoolVar(&whole, "mime", false, "the whole MIME message")
	return c
}

func (a *app) read(ctx context.Context, client *api.Client, id, out, dir string, whole, now bool) error {
	m, err := client.Message(ctx, id)
	if err == nil && m.Direction == "received" && m.State == "queued" && !now {
		lost := a.until(ctx, client, about(func(e api.Message) bool { return e.Direction == "received" }), func() bool {
			m, err = client.Message(ctx, m.ID)
			return err != nil || m.State != "queued"
		})
		err = errors.Join(lost, err)
	}
	if err != nil {
		return err
	}
	content, err := client.Content(ctx, id)
	if err != nil {
		return err
	}
	defer content.Close()
	source := a.watch("reading", content, m.Bytes)
	var body io.Reader = source
	var msg *mail.Message
	if !whole {
		if msg, err = mail.Read(source); err != nil {
			return err
		}
		part, err := msg.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if body = part.Body; body == nil {
			body = strings.NewReader("")
		}
	}
	var n int64
	switch {
	case out != "":
		err = writeWhole(out, func(w io.Writer) error {
			n, err = io.Copy(w, body)
			return err
		})
	case a.json:
		n, err = io.Copy(io.Discard, body) // standard output is for JSON
	case terminal(a.out):
		n, err = showText(a.out, body)
	default:
		n, err = io.Copy(a.out, body)
	}
	if err != nil {
		return err
	}
	saved := []string{}
	for msg != nil {
		part, err := msg.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		path := ""
		if dir != "" {
			path = filepath.Join(dir, fileName(part.Name, len(saved)))
			if path, err = writeNew(path, part.Body); err != nil {
				return err
			}
		} else if _, err := io.Copy(io.Discard, part.Body); err != nil {
			return err
		}
		if path == "" {
			path = part.Name
		}
		saved = append(saved, path)
	}
	a.print.summary(struct {
		api.Message
		Bytes       int64    `json:"bytes"`
		Output      string   `json:"output,omitempty"`
		Attachments []string `json:"attachments"`
	}{m, n, out, saved}, func(io.Writer) {
		if out != "" {
			fmt.Fprintf(a.err, "%d bytes from %s, written to %s\n", n, m.From, out)
		}
		for _, s := range saved {
			verb := "attached, --attachments saves it"
			if dir != "" {
				verb = "saved"
			}
			fmt.Fprintf(a.err, "%s: %s\n", verb, printable(s))
		}
	})
	return nil
}

// fileName is a stranger's file name that leads nowhere else.
func fileName(name string, n int) string {
	name = printable(filepath.Base(filepath.Clean("/" + strings.ReplaceAll(name, `\`, "/"))))
	if name == "/" || name == "." || strings.HasPrefix(name, ".") || len(name) > 200 {
		name = fmt.Sprintf("attachment-%d", n+1)
	}
	return name
}

func (a *app) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "Take a message back before it is paid for",
		Long:  "Takes back a message whose payment is not signed yet. After that it cannot be taken back: what nobody\npicks up is refunded.",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			return a.oneMessage(client.Cancel(c.Context(), args[0]))
		},
	}
}

func (a *app) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID…",
		Short: "Delete messages: received ones, or sent ones that have come to their end",
		Args:  usage(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			gone := []string{}
			for _, id := range args {
				m, err := client.Delete(c.Context(), id)
				if err != nil {
					return err
				}
				gone = append(gone, m.ID)
			}
			a.print.summary(struct {
				Deleted []string `json:"deleted"`
			}{gone}, func(w io.Writer) {
				for _, id := range gone {
					fmt.Fprintln(w, "deleted", id)
				}
			})
			return nil
		},
	}
}

func (a *app) proofCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "proof ID",
		Short: "Export a proof that a message was delivered",
		Long: "Writes a proof that the recipient signed for a message: anybody can check it with 'bitgram verify',\n" +
			"offline and without trusting the sender.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			if err := checkOutput(out, false); err != nil {
				return err
			}
			p, err := client.Proof(c.Context(), args[0])
			if err != nil {
				return err
			}
			raw, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				return err
			}
			if out != "" {
				if err := writeWhole(out, func(w io.Writer) error {
					_, err := w.Write(append(raw, '\n'))
					return err
				}); err != nil {
					return err
				}
			}
			a.print.summary(struct {
				deal.Proof
				Output string `json:"output,omitempty"`
			}{p, out}, func(w io.Writer) {
				if out == "" {
					fmt.Fprintf(w, "%s\n", raw)
				} else {
					fmt.Fprintf(a.err, "written to %s\n", out)
				}
			})
			return nil
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "write to this file instead of standard output")
	return c
}

func (a *app) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Check a proof of delivery, offline",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			in := a.in
			if args[0] != "-" {
				f, _, err := openInput(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			var p deal.Proof
			const most = 8 << 20
			if err := json.NewDecoder(io.LimitReader(in, most)).Decode(&p); err != nil {
				return fmt.Errorf("%w: %w", deal.ErrBadReceipt, err)
			}
			txid, err := p.Verify()
			if err != nil {
				return err
			}
			shown := wireTxid(txid)
			a.print.summary(struct {
				Valid     bool         `json:"valid"`
				MessageID string       `json:"message_id"`
				Recipient string       `json:"recipient"`
				Agent     string       `json:"agent"`
				Network   wire.Network `json:"network"`
				Funding   string       `json:"funding_txid"`
			}{true, p.MessageID, p.Recipient, p.Agent, p.Network, shown}, func(w io.Writer) {
				fmt.Fprintf(w, "%s\nsigned that it received message %s\nfrom agent %s,\npaid by %s on %s (look there whether that transaction is confirmed).\n",
					p.Recipient, p.MessageID, p.Agent, shown, p.Network)
			})
			return nil
		},
	}
}

// checkOutput finds out before any work whether a file, or a directory, can be
// written.
func checkOutput(path string, dir bool) error {
	if path == "" {
		return nil
	}
	if dir {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("%w: %w", errOutput, err)
		}
		path = filepath.Join(path, "x")
	} else if s, err := os.Stat(path); err == nil && s.IsDir() {
		return fmt.Errorf("%w: %s is a directory", errOutput, path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".bitgram-*")
	if err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// errOutput marks a place that cannot be written to.
var errOutput = errors.New("cannot write the output")

// writeWhole writes a file that appears whole or not at all, and is the user's
// alone: it holds mail, or the way to money.
func writeWhole(path string, fill func(io.Writer) error) error { return home.WriteFile(path, fill) }

// writeNew writes a file under a name that a stranger chose, or one like it where
// that is taken, and returns the name: nothing is overwritten.
func writeNew(path string, r io.Reader) (string, error) {
	ext := filepath.Ext(path)
	stem := strings.TrimSuffix(path, ext)
	for n := 2; ; n++ {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return "", fmt.Errorf("%w: %w", errOutput, err)
		}
		path = fmt.Sprintf("%s-%d%s", stem, n, ext)
	}
	return path, writeWhole(path, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}
