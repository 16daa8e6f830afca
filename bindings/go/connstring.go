package pgaad

import (
	"context"
	"fmt"
	"strings"
)

// ConnString writes a connection string for pgx and lib/pq: the caller's options (key=value or URI; "" is the environment
// alone), and, where Entra is on for this server, a token as password, and host and TLS as they must be for it. It holds a
// secret, and is good for connections that are made now: [BeforeConnect] and [Connector] ask for each anew.
//
// These drivers are not built on libpq. What only libpq knows is left out where that changes nothing. Where it would change
// which server gets the token, or who vouches for it, that is ErrConfig: hostaddr beside another host, requirepeer, sslcrl,
// sslcrldir, gssencmode=require and channel_binding=require. Otherwise it waits and fails as [Client.LibpqConnString].
func (c *Client) ConnString(ctx context.Context, conninfo string) (string, error) {
	options, err := c.options(ctx, conninfo)
	return options.String(), err
}

// options are those of ConnString.
func (c *Client) options(ctx context.Context, conninfo string) (options, error) {
	text, err := c.LibpqConnString(ctx, conninfo)
	if err != nil {
		return nil, err
	}
	return forDrivers(parse(text))
}

// Quote writes a value as it may stand in settings or a connection string: "client_secret=" + pgaad.Quote(secret).
func Quote(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// forDrivers translates what the library wrote for libpq.
func forDrivers(libpq options) (options, error) {
	host, err := hostOf(libpq.value("host"), libpq.value("hostaddr"))
	if err != nil {
		return nil, err
	}
	var drivers options
	if host != "" {
		drivers = append(drivers, option{"host", host})
	}
	for _, option := range libpq {
		switch option.keyword {
		case "host", "hostaddr":
			continue
		case "gssencmode", "channel_binding":
			if option.value == "require" {
				return nil, unknown(option.keyword + "=require")
			}
			continue // what they do anyway
		case "requirepeer", "sslcrl", "sslcrldir":
			if option.value != "" {
				return nil, unknown(option.keyword)
			}
			continue
		case "sslmode":
			// With roots the one is the other, but lib/pq takes any certificate where the file has gone meanwhile.
			if option.value == "require" && libpq.value("sslrootcert") != "" {
				option.value = "verify-ca"
			}
		}
		drivers = append(drivers, option)
	}
	return drivers, nil
}

// hostOf is where the drivers connect to what libpq would: by the host's name, where no address is to stand in for it. Both
// may be lists.
func hostOf(host, hostaddr string) (string, error) {
	if strings.Trim(hostaddr, ",") == "" {
		return host, nil
	}
	if strings.Trim(host, ",") == "" {
		return hostaddr, nil
	}
	hosts, addresses := strings.Split(host, ","), strings.Split(hostaddr, ",")
	for i, address := range addresses {
		switch {
		case i >= len(hosts):
			return "", unknown("hostaddr")
		case hosts[i] == "":
			hosts[i] = address
		case address != "" && address != hosts[i]:
			return "", unknown("hostaddr")
		}
	}
	return strings.Join(hosts, ","), nil
}

func unknown(option string) error {
	return &Error{
		Status: ErrConfig,
		Message: fmt.Sprintf("pgaad: %s is set, in the connection string or the environment, and drivers that are not built on "+
			"libpq (pgx, lib/pq) would pass over it. Leave it out.", option),
	}
}

type option struct{ keyword, value string }

// options are those of a connection string, each keyword once.
type options []option

// value is that of a keyword, or "".
func (o options) value(keyword string) string {
	for _, option := range o {
		if option.keyword == keyword {
			return option.value
		}
	}
	return ""
}

// hide empties a value, and returns it.
func (o options) hide(keyword string) string {
	for i, option := range o {
		if option.keyword == keyword {
			o[i].value = ""
			return option.value
		}
	}
	return ""
}

// String is the connection string.
func (o options) String() string {
	texts := make([]string, len(o))
	for i, option := range o {
		texts[i] = option.keyword + "=" + Quote(option.value)
	}
	return strings.Join(texts, " ")
}

// parse reads what the library writes: keyword='value', with \' and \\ in the value.
func parse(conninfo string) options {
	var found options
	for {
		keyword, rest, ok := strings.Cut(conninfo, "='")
		if !ok {
			return found
		}
		var value strings.Builder
		end := 0
		for ; end < len(rest) && rest[end] != '\''; end++ {
			if rest[end] == '\\' && end+1 < len(rest) {
				end++
			}
			value.WriteByte(rest[end])
		}
		found = append(found, option{strings.TrimSpace(keyword), value.String()})
		conninfo = strings.TrimPrefix(rest[end:], "'")
	}
}
