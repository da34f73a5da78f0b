/**
 * The addresses that a person gives `rowan up`, looked at before anything is opened, and what is said of those that cannot
 * be listened on. libp2p would take some without a word, and explains others in the words of its own configuration.
 */
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { RowanError } from '../errors.ts'

export interface GivenAddresses {
  listen: string[]
  announce: string[]
  bootstrap: string[]
}

/**
 * @throws RowanError CONFIG_INVALID, naming the setting, for what is no multiaddr, names a peer by what is no id, or, to join
 *   the network through, names none: who answers there could not be told from anybody else, and is not called
 */
export function checkAddresses(given: GivenAddresses): void {
  for (const name of ['listen', 'announce', 'bootstrap'] as const) {
    for (const text of given[name]) {
      const address = parseAddress(text, name)
      if (name !== 'bootstrap' || namesPeer(address)) continue
      throw new RowanError(
        'CONFIG_INVALID',
        `bootstrap: '${text}' does not say who is there; it must end in /p2p/PEER-ID`
      )
    }
  }
}

/** Whether an address says which peer is at its end; one through a relay names the relay in its middle. */
export function namesPeer(address: Multiaddr): boolean {
  return address.getComponents().at(-1)?.name === 'p2p'
}

/** @throws RowanError CONFIG_INVALID */
export function parseAddress(text: string, setting: keyof GivenAddresses): Multiaddr {
  try {
    const address = multiaddr(text)
    for (const { name, value } of address.getComponents()) if (name === 'p2p') peerIdFromString(value ?? '')
    return address
  } catch (cause) {
    const example = `/ip4/192.0.2.7/tcp/4601${setting === 'bootstrap' ? '/p2p/12D3KooW…' : ''}`
    throw new RowanError('CONFIG_INVALID', `${setting}: '${text}' is no address like ${example}`, { cause })
  }
}

/** LISTEN_FAILED out of what libp2p throws when a peer starts: each address with its reason. */
export function listenFailed(error: unknown, listen: readonly string[]): RowanError {
  const message = error instanceof Error ? error.message : String(error)
  // A line for each address, with the stack of its error below it.
  const reasons = [...message.matchAll(/^ {2}(\/\S+): (?:\w+: )?(.+)$/gm)].map(([, address, reason]) => {
    const says = /No transport/.test(reason!) ? 'only TCP, like /ip4/0.0.0.0/tcp/4601, can be listened on' : reason
    return `${address}: ${says}`
  })
  const says = reasons.length > 0 ? reasons.join('; ') : `${listen.join(', ') || 'no address'}: ${message}`
  return new RowanError('LISTEN_FAILED', `cannot listen on ${says}`, { cause: error })
}
