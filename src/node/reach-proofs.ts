/**
 * What shows that others can dial this peer, and for how long that may be believed.
 *
 * A proof is somebody of the Internet who came in by IPv4, or by IPv6; one says nothing of the other. It holds for a while, and as long as
 * somebody who came in so is still connected. It ends at once when what it rested on is gone: an address of this host (a
 * laptop was carried elsewhere) or the router's promise of a port. What the owner has named needs no proof.
 *
 * IPv4 counts for more: most of those who fetch have nothing else.
 */
import { isIPv4 } from 'node:net'
import { networkOf, REACH, reachOf } from '../directory/addresses.ts'

/** Longer than AutoNAT waits before it asks again, so that who is dialled by nobody else is not doubted each time. */
export const PROOF_MS = 2 * 3_600_000

export type Family = 'ip4' | 'ip6'

export class ReachProofs {
  readonly #isNamed: boolean
  readonly #untilMs = { ip4: Number.NEGATIVE_INFINITY, ip6: Number.NEGATIVE_INFINITY }
  /** Where this host was the last time, by family: its addresses without ports. */
  #own: Record<Family, ReadonlySet<string>> = { ip4: new Set(), ip6: new Set() }

  /** @param isNamed - whether the owner says that this peer can be dialled */
  constructor(isNamed: boolean) {
    this.#isNamed = isNamed
  }

  /** Somebody of the Internet has come in from there, or is still here. */
  cameIn(remote: string, nowMs: number): void {
    this.#untilMs[familyOf(remote)] = nowMs + PROOF_MS
  }

  holds(family: Family, nowMs: number): boolean {
    return this.#isNamed || nowMs < this.#untilMs[family]
  }

  /** What a proof rested on is gone. */
  forget(family: Family): void {
    this.#untilMs[family] = Number.NEGATIVE_INFINITY
  }

  /**
   * These are the addresses of this host now. A new one is no reason to doubt, one that is gone is.
   *
   * @returns whether one is gone
   */
  own(hosts: readonly string[]): boolean {
    const byFamily = { ip4: new Set<string>(), ip6: new Set<string>() }
    for (const host of hosts) byFamily[isIPv4(host) ? 'ip4' : 'ip6'].add(host)
    const families = ['ip4', 'ip6'] as const
    const changed = families.filter(family => relevant(this.#own[family]).some(host => !byFamily[family].has(host)))
    for (const family of changed) this.forget(family)
    this.#own = byFamily
    return changed.length > 0
  }
}

/** Where a host has addresses of the Internet, a bridge of its containers that comes and goes says nothing. */
function relevant(hosts: ReadonlySet<string>): string[] {
  const ofInternet = [...hosts].filter(
    host => reachOf(`/${isIPv4(host) ? 'ip4' : 'ip6'}/${host}/tcp/1`) === REACH.public
  )
  return ofInternet.length > 0 ? ofInternet : [...hosts]
}

/** By what somebody came; IPv4 in IPv6's clothes is IPv4. */
export function familyOf(remote: string): Family {
  return isIPv4(networkOf(remote)) ? 'ip4' : 'ip6'
}
