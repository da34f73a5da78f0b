/**
 * Connected peers pass `latest` records on to each other in their greeting, so that a crowd of volunteers does not ask
 * the holders one by one.
 *
 * Only records of appliances that this peer has to do with are taken: a stranger cannot fill the memory with others.
 */
import type { ApplianceMemory } from '../directory/appliance-memory.ts'
import type { Clock, Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { openLatest } from '../image/release.ts'
import type { RecordExchange } from '../swarm/swarm.ts'

/** Records in one greeting; those of the appliances that were renewed last. */
const MAX_OFFERED = 8

export interface LatestExchangeComponents {
  memory: ApplianceMemory
  clock: Clock
  log: Log
}

export class LatestExchange implements RecordExchange {
  readonly #components: LatestExchangeComponents

  constructor(components: LatestExchangeComponents) {
    this.#components = components
  }

  offer(): Uint8Array[] {
    return this.#components.memory
      .all()
      .map(({ latest }) => latest)
      .sort((a, b) => b.issuedMs - a.issuedMs)
      .slice(0, MAX_OFFERED)
      .map(({ bytes }) => bytes)
  }

  async receive(peer: string, record: Uint8Array): Promise<void> {
    const { memory, clock, log } = this.#components
    try {
      const latest = await openLatest(record)
      if (memory.state(latest.appliance) === undefined || latest.expiresMs <= clock.now()) return
      if ((await memory.accept(latest, clock.now())) === 'newer') {
        log.info('heard of a newer release record', { appliance: latest.appliance, sequence: latest.sequence, peer })
      }
    } catch (error) {
      log.debug('a greeting brought a record that is of no use', { peer, error: asRowanError(error) })
    }
  }
}
