/**
 * Asking the local network for its router, by SSDP (UPnP Device Architecture 1.1, section 1.3).
 *
 * The question goes to all, so anybody on the network may answer, with the URL of a description. Of an answer nothing is believed but that
 * whoever sent it is there: a URL at any other address than the sender's own is passed over, for it would make this peer call whomever
 * the answer names (rule 8). It must be a private one, too, and not this host's.
 */
import { createSocket } from 'node:dgram'
import { REACH, reachOf } from '../directory/addresses.ts'

const GROUP = '239.255.255.250'
const PORT = 1900
const TARGETS = [1, 2].map(version => `urn:schemas-upnp-org:device:InternetGatewayDevice:${version}`)
/** Routers answer within this many seconds, at a moment of their choice; asked twice, for UDP loses things. */
const PATIENCE_SECONDS = 2
const ASKED_TIMES = 2
const MAX_MESSAGE_BYTES = 2048
const MAX_GATEWAYS = 4

/**
 * Where routers of one of this host's networks describe themselves.
 *
 * @param from - this host's own address on that network
 * @returns URLs at the addresses that have answered, at most MAX_GATEWAYS; none also where the network cannot be asked
 */
export async function findGateways(from: string, options: { signal: AbortSignal }): Promise<URL[]> {
  const found = new Map<string, URL>()
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  const { promise, resolve } = Promise.withResolvers<void>()
  const timers: NodeJS.Timeout[] = []
  socket.on('error', () => resolve())
  socket.on('message', (message, { address }) => {
    const location = locationOf(message, address)
    if (location === undefined || address === from) return
    if (found.size < MAX_GATEWAYS) found.set(location.href, location)
  })
  options.signal.addEventListener('abort', () => resolve(), { once: true })
  socket.bind(0, from, () => {
    const ask = () => {
      for (const target of TARGETS) socket.send(question(target), PORT, GROUP, () => undefined)
    }
    try {
      socket.setMulticastInterface(from)
      socket.setMulticastTTL(2)
    } catch {
      // A network without multicast has no router that could be asked.
      resolve()
    }
    for (let time = 0; time < ASKED_TIMES; time++) timers.push(setTimeout(ask, time * 500))
    timers.push(setTimeout(resolve, (PATIENCE_SECONDS + 1) * 1000))
  })
  await promise
  for (const timer of timers) clearTimeout(timer)
  socket.close()
  return [...found.values()]
}

function question(target: string): string {
  const lines = ['M-SEARCH * HTTP/1.1', `HOST: ${GROUP}:${PORT}`, 'MAN: "ssdp:discover"', `MX: ${PATIENCE_SECONDS}`]
  return [...lines, `ST: ${target}`, '', ''].join('\r\n')
}

/** Where the sender of an answer describes itself; undefined for anything else. */
export function locationOf(message: Uint8Array, sender: string): URL | undefined {
  if (message.byteLength > MAX_MESSAGE_BYTES) return undefined
  const [first = '', ...headers] = Buffer.from(message).toString('latin1').split('\r\n')
  const target = headers
    .find(line => /^st:/i.test(line))
    ?.slice(3)
    .trim()
  const text = headers
    .find(line => /^location:/i.test(line))
    ?.slice(9)
    .trim()
  if (!/^HTTP\/1\.[01] 200\b/.test(first) || !TARGETS.includes(target ?? '') || !URL.canParse(text ?? ''))
    return undefined
  const url = new URL(text!)
  const isAtHome = reachOf(`/ip4/${sender}/tcp/${url.port || 80}`) === REACH.private
  return url.protocol === 'http:' && url.hostname === sender && isAtHome ? url : undefined
}
