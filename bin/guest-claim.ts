/**
 * That a machine's guest is started once, from the moment somebody begins to prepare it.
 *
 * Its disk has a client only when QEMU runs; before that a network is made for it and processors are tried out, which takes
 * seconds, in which a second `rowan run` would see nobody. So whoever starts a guest listens on a socket of the kernel's abstract
 * namespace: the kernel gives a name to one process at a time, and takes it back when that ends, however it does.
 */
import { createHash } from 'node:crypto'
import { realpathSync } from 'node:fs'
import { createServer } from 'node:net'

export interface GuestClaim {
  release(): void
}

/** The machine's guest is this process's until it ends; undefined where it is another's. Elsewhere than on Linux everybody has it. */
export async function claimGuest(home: string, machine: string): Promise<GuestClaim | undefined> {
  const hash = createHash('sha256')
    .update(`${realpathSync(home)}\0${machine}`)
    .digest('hex')
  const server = createServer(socket => socket.destroy())
  const { promise, resolve } = Promise.withResolvers<boolean>()
  server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'EADDRINUSE'))
  // No other process is to wait for it, nor this one.
  server.listen({ path: `\0rowan-guest-${hash}`, exclusive: true }, () => resolve(true)).unref()
  if (!(await promise)) return undefined
  return { release: () => server.close() }
}
