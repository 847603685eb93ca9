package otp_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	pquerna "github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"sallyport/otp"
)

// rfcSecret returns the seed of the RFCs' test vectors in the wanted length.
func rfcSecret(length int) otp.Secret {
	return otp.Secret(strings.Repeat("1234567890", 7)[:length])
}

// RFC 4226, appendix D.
func TestHOTPVectors(t *testing.T) {
	t.Parallel()
	want := []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"}
	for counter, want := range want {
		if got := otp.DefaultParams().Code(rfcSecret(20), int64(counter)); got != want {
			t.Errorf("counter %d: got %s, want %s", counter, got, want)
		}
	}
}

// RFC 6238, appendix B, with the seed lengths of its reference implementation.
func TestTOTPVectors(t *testing.T) {
	t.Parallel()
	seed := map[otp.Algorithm]int{otp.SHA1: 20, otp.SHA256: 32, otp.SHA512: 64}
	tests := []struct {
		unix int64
		want map[otp.Algorithm]string
	}{
		{59, map[otp.Algorithm]string{otp.SHA1: "94287082", otp.SHA256: "46119246", otp.SHA512: "90693936"}},
		{1111111109, map[otp.Algorithm]string{otp.SHA1: "07081804", otp.SHA256: "68084774", otp.SHA512: "25091201"}},
		{1111111111, map[otp.Algorithm]string{otp.SHA1: "14050471", otp.SHA256: "67062674", otp.SHA512: "99943326"}},
		{1234567890, map[otp.Algorithm]string{otp.SHA1: "89005924", otp.SHA256: "91819424", otp.SHA512: "93441116"}},
		{2000000000, map[otp.Algorithm]string{otp.SHA1: "69279037", otp.SHA256: "90698825", otp.SHA512: "38618901"}},
		{20000000000, map[otp.Algorithm]string{otp.SHA1: "65353130", otp.SHA256: "77737706", otp.SHA512: "47863826"}},
	}
	for _, tt := range tests {
		for algorithm, want := range tt.want {
			p := otp.Params{Algorithm: algorithm, Digits: 8, Period: 30}
			if got := p.Code(rfcSecret(seed[algorithm]), p.StepAt(time.Unix(tt.unix, 0))); got != want {
				t.Errorf("%s at %d: got %s, want %s", algorithm, tt.unix, got, want)
			}
		}
	}
}

// randomParams returns valid parameters and a secret that fits them.
func randomParams() (otp.Params, otp.Secret) {
	p := otp.Params{
		Algorithm: []otp.Algorithm{otp.SHA1, otp.SHA256, otp.SHA512}[rand.IntN(3)],
		Digits:    []int{6, 8}[rand.IntN(2)],
		Period:    []int{30, 60}[rand.IntN(2)],
	}
	secret := make(otp.Secret, 16+rand.IntN(113))
	for i := range secret {
		secret[i] = byte(rand.Uint32())
	}
	return p, secret
}

// Ensure codes are those of oathtool, a program that shares no code with us: 10 000 random ones, of
// which one process prints 50 in a row.
func TestCodesAgainstOathtool(t *testing.T) {
	t.Parallel()
	const starts, codes = 200, 50
	for i := range starts {
		p, secret := randomParams()
		first := rand.Int64N(1 << 40)
		args := []string{"--base32", "--digits", strconv.Itoa(p.Digits), "--window", strconv.Itoa(codes - 1)}
		if i%4 == 0 { // oathtool knows HOTP with SHA-1 only
			p = otp.Params{Kind: otp.HOTP, Algorithm: otp.SHA1, Digits: p.Digits}
			args = append(args, "--counter", strconv.FormatInt(first, 10))
		} else {
			unix := rand.Int64N(4102444800) // up to the year 2100
			first = p.StepAt(time.Unix(unix, 0))
			args = append(args, "--totp="+string(p.Algorithm), "--time-step-size", fmt.Sprintf("%ds", p.Period), "--now", fmt.Sprintf("@%d", unix))
		}
		cmd := exec.Command("oathtool", append(args, "-")...)
		cmd.Stdin = strings.NewReader(secret.Base32())
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("running oathtool: %v (is Debian's package oathtool installed?)", err)
		}
		want := strings.Fields(string(out))
		if len(want) != codes {
			t.Fatalf("oathtool printed %d codes, want %d", len(want), codes)
		}
		for i, want := range want {
			if got := p.Code(secret, first+int64(i)); got != want {
				t.Fatalf("%+v, secret %s, step %d: got %s, oathtool says %s", p, secret.Base32(), first+int64(i), got, want)
			}
		}
	}
}

// Ensure codes are those of pquerna/otp as well.
func TestCodesAgainstPquerna(t *testing.T) {
	t.Parallel()
	algorithms := map[otp.Algorithm]pquerna.Algorithm{
		otp.SHA1: pquerna.AlgorithmSHA1, otp.SHA256: pquerna.AlgorithmSHA256, otp.SHA512: pquerna.AlgorithmSHA512,
	}
	for range 1000 {
		p, secret := randomParams()
		at := time.Unix(rand.Int64N(20000000000), 0)
		want, err := totp.GenerateCodeCustom(secret.Base32(), at, totp.ValidateOpts{
			Period: uint(p.Period), Digits: pquerna.Digits(p.Digits), Algorithm: algorithms[p.Algorithm],
		})
		if err != nil {
			t.Fatalf("generating the code: %v", err)
		}
		if got := p.Code(secret, p.StepAt(at)); got != want {
			t.Fatalf("%+v, secret %s at %v: got %s, want %s", p, secret.Base32(), at, got, want)
		}
	}
}

func TestStepAt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		period int
		unix   int64
		want   int64
	}{
		{30, 0, 0}, {30, 29, 0}, {30, 30, 1}, {60, 59, 0}, {60, 60, 1},
		{30, 1111111109, 37037036}, {30, 1111111111, 37037037},
		{30, -1, -1}, {30, -30, -1}, {30, -31, -2},
		{0, 1111111109, -1}, {-30, 1111111109, -1},
	}
	for _, tt := range tests {
		p := otp.Params{Algorithm: otp.SHA1, Digits: 6, Period: tt.period}
		if got := p.StepAt(time.Unix(tt.unix, 999_999_999)); got != tt.want {
			t.Errorf("period %d at %d: got %d, want %d", tt.period, tt.unix, got, tt.want)
		}
	}
	p := otp.DefaultParams()
	if got, want := p.StepEnd(37037036), time.Unix(1111111110, 0); !got.Equal(want) {
		t.Errorf("end of the step: got %v, want %v", got, want)
	}
}

func TestParamsValidate(t *testing.T) {
	t.Parallel()
	if err := otp.DefaultParams().Validate(); err != nil {
		t.Errorf("default parameters: %v", err)
	}
	invalid := []otp.Params{
		{},
		{Algorithm: "sha1", Digits: 6, Period: 30},
		{Algorithm: "MD5", Digits: 6, Period: 30},
		{Algorithm: otp.SHA1, Digits: 1, Period: 30},
		{Algorithm: otp.SHA1, Digits: 7, Period: 30},
		{Algorithm: otp.SHA1, Digits: -6, Period: 30},
		{Algorithm: otp.SHA1, Digits: math.MaxInt, Period: 30},
		{Algorithm: otp.SHA1, Digits: 6, Period: 0},
		{Algorithm: otp.SHA1, Digits: 6, Period: -30},
		{Algorithm: otp.SHA1, Digits: 6, Period: 3600},
	}
	for _, p := range invalid {
		if p.Validate() == nil {
			t.Errorf("%+v is valid", p)
		}
		if got := p.Code(rfcSecret(20), 1); got != "" {
			t.Errorf("%+v makes the code %q", p, got)
		}
		for _, code := range []string{"", "0", "287082"} {
			if got := p.Match(rfcSecret(20), code, 1, 0, otp.DefaultWindow()); got != (otp.Outcome{}) {
				t.Errorf("%+v, code %q: got %+v, want nothing", p, code, got)
			}
		}
	}
}

func TestNormalise(t *testing.T) {
	t.Parallel()
	const six, eight = 6, 8
	accepted := []struct {
		typed  string
		digits int
		want   string
	}{
		{"123456", six, "123456"},
		{"000000", six, "000000"},
		{"012345", six, "012345"},
		{"123 456", six, "123456"},
		{"123-456", six, "123456"},
		{"123 - 456", six, "123456"},
		{" 123456  ", six, "123456"},
		{"1 2 3 4 5 6", six, "123456"},
		{"12-34-56", six, "123456"},
		{"1234 5678", eight, "12345678"},
		{"12345678", eight, "12345678"},
	}
	for _, tt := range accepted {
		if got, err := otp.Normalise(tt.typed, tt.digits); got != tt.want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", tt.typed, got, err, tt.want)
		}
	}
	refused := []struct {
		name, typed string
		digits      int
	}{
		{"empty", "", six},
		{"only spaces", "      ", six},
		{"five digits", "12345", six},
		{"seven digits", "1234567", six},
		{"six digits for a token of eight", "123456", eight},
		{"eight digits for a token of six", "12345678", six},
		{"minus", "-123456", six},
		{"minus after a space", " -123456", six},
		{"hyphen at the end", "123456-", six},
		{"hyphen before a space at the end", "123456- ", six},
		{"two hyphens", "123--456", six},
		{"two hyphens apart", "123- -456", six},
		{"plus", "+123456", six},
		{"plus for a space", "123+456", six},
		{"letter", "12345a", six},
		{"hexadecimal", "0x1234", six},
		{"exponent", "1234e5", six},
		{"point", "123.456", six},
		{"comma", "123,456", six},
		{"underscore", "123_456", six},
		{"slash, the character before 0", "12345/", six},
		{"colon, the character after 9", "12345:", six},
		{"tab", "123\t456", six},
		{"newline", "123456\n", six},
		{"carriage return", "123456\r", six},
		{"NUL", "123456\x00", six},
		{"NUL inside", "123\x00456", six},
		{"escape", "\x1b[A123456", six},
		{"no-break space", "123\u00a0456", six},
		{"narrow no-break space", "123\u202f456", six},
		{"zero-width space", "123\u200b456", six},
		{"byte order mark", "\ufeff123456", six},
		{"dash that is no hyphen", "123\u2013456", six},
		{"Arabic-Indic digits", "١٢٣٤٥٦", six},
		{"two Arabic-Indic digits of six", "1234٥٦", six},
		{"full-width digits", "１２３４５６", six},
		{"mathematical digits", "𝟏𝟐𝟑𝟒𝟓𝟔", six},
		{"superscript", "12345⁶", six},
		{"not UTF-8", "12345\xff", six},
		{"as many spaces as make it long", strings.Repeat(" ", 100) + "123456", six},
		{"1 MB of digits", strings.Repeat("1", 1<<20), six},
		{"1 MB of spaces", strings.Repeat(" ", 1<<20), six},
		{"no digits wanted", "", 0},
		{"one digit wanted", "1", 1},
		{"negative number of digits", "", -1},
	}
	for _, tt := range refused {
		got, err := otp.Normalise(tt.typed, tt.digits)
		if got != "" || err == nil {
			t.Errorf("%s: got %q, %v, want it refused", tt.name, got, err)
			continue
		}
		if strings.Contains(err.Error(), "123") {
			t.Errorf("%s: the error repeats what was typed: %v", tt.name, err)
		}
	}
}

// Ensure that what passes is digits of the wanted number, the ones that were typed and in order.
func FuzzNormalise(f *testing.F) {
	for _, seed := range []string{"123456", "123 456", "12-34-56", "-123456", "١٢٣٤٥٦", "12345678", "\x00"} {
		f.Add(seed, 6)
		f.Add(seed, 8)
	}
	f.Fuzz(func(t *testing.T, typed string, digits int) {
		code, err := otp.Normalise(typed, digits)
		if err != nil {
			if code != "" {
				t.Fatalf("%q is refused and returned as %q", typed, code)
			}
			return
		}
		if len(code) != digits || strings.Trim(code, "0123456789") != "" {
			t.Fatalf("%q became %q, not %d digits", typed, code, digits)
		}
		if plain := strings.NewReplacer(" ", "", "-", "").Replace(typed); plain != code {
			t.Fatalf("%q became %q", typed, code)
		}
		if again, err := otp.Normalise(code, digits); again != code || err != nil {
			t.Fatalf("%q is no fixed point: %q, %v", code, again, err)
		}
	})
}
