// Where the page is not open to all on its machine: the token.
import { useState } from "preact/hooks";
import { post } from "../api";

export function Login({ onDone }: { onDone: () => void }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState<string | null>(null);
  return (
    <main class="alone">
      <h1>pipe</h1>
      <p>This page is for those who have its token, which `pipe ui` printed.</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          post("login", { token: token.trim() }).then(onDone, (problem) => setError(problem.message));
        }}
      >
        <input type="password" placeholder="token" aria-label="token" value={token} onInput={(event) => setToken(event.currentTarget.value)} autocomplete="off" />
        <button class="main">open</button>
      </form>
      {error && <p class="error">{error}</p>}
    </main>
  );
}
