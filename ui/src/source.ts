// Where the data of the page come from: the server that sent it, or the page itself, where it is a file.
import { Embedded, type Told } from "./embedded";
import { Problem } from "./problem";

export interface Source {
  /** Whether there is a server: one that is told of changes, and may be asked for some. */
  readonly served: boolean;
  /** What the address below `/api/` answers. */
  get(path: string, signal?: AbortSignal): Promise<unknown>;
  post(path: string, body: unknown): Promise<unknown>;
  /** The address of an image of a run; null where the page does not have it. */
  image(run: string, name: string): string | null;
  /** The address of a file of a run; null where there is none to be had. */
  file(run: string, path: string): string | null;
}

class Server implements Source {
  readonly served = true;

  async get(path: string, signal?: AbortSignal): Promise<unknown> {
    const response = await fetch(`/api/${path}`, signal ? { signal } : {}).catch((error) => {
      throw error?.name === "AbortError" ? error : new Problem("the server is not to be reached: is `pipe ui` running?", 0);
    });
    return answer(response);
  }

  async post(path: string, body: unknown): Promise<unknown> {
    const headers = { "content-type": "application/json" };
    return answer(await fetch(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(body) }));
  }

  image(run: string, name: string): string {
    return `/api/runs/${run}/image/${encodeURIComponent(name)}`;
  }

  file(run: string, path: string): string {
    return `/api/runs/${run}/file?path=${encodeURIComponent(path)}`;
  }
}

async function answer(response: Response): Promise<unknown> {
  if (response.status === 204) return null;
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Problem(body?.error ?? `the server answered ${response.status}`, response.status);
  return body;
}

const told = document.getElementById("pipe-data")?.textContent;

export const source: Source = told ? new Embedded(JSON.parse(told) as Told) : new Server();
