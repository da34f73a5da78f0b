/**
 * What connected peers pass on to each other in their greeting: `latest` records, so that a crowd of volunteers does not
 * ask the holders one by one, and to a replica the leases of what is wanted of it, so that it knows whom it serves even
 * if somebody has taken over the holders.
 *
 * Only records of appliances that this peer has to do with are taken: a stranger cannot fill the memory with others.
 */
import type { ApplianceMemory } from '../directory/appliance-memory.ts'
import { applianceOf, openLease } from '../directory/lease-record.ts'
import type { Clock, Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { openLatest } from '../image/release.ts'
import { recordKindOf } from '../image/signed.ts'
import type { RecordExchange } from '../swarm/swarm.ts'

/** Records in one greeting; those of the appliances that were renewed last. */
const MAX_OFFERED = 8
const MAX_LEASES_OFFERED = 8

export interface GreetingRecordsComponents {
  memory: ApplianceMemory
  directory: { leasesFor(images: readonly string[]): Uint8Array[]; takeLease(record: Uint8Array): Promise<void> }
  clock: Clock
  log: Log
}

export class GreetingRecords implements RecordExchange {
  readonly #components: GreetingRecordsComponents

  constructor(components: GreetingRecordsComponents) {
    this.#components = components
  }

  offer(images: readonly string[]): Uint8Array[] {
    const { memory, directory } = this.#components
    const leases = directory.leasesFor(images).slice(0, MAX_LEASES_OFFERED)
    const latest = memory
      .all()
      .map(({ latest }) => latest)
      .sort((a, b) => b.issuedMs - a.issuedMs)
      .slice(0, MAX_OFFERED)
      .map(({ bytes }) => bytes)
    return [...leases, ...latest]
  }

  async receive(peer: string, record: Uint8Array): Promise<void> {
    const { memory, clock, log } = this.#components
    try {
      if (recordKindOf(record) === 'rowan-lease') {
        await this.#receiveLease(record)
        return
      }
      const latest = await openLatest(record)
      if (memory.state(latest.appliance) === undefined || latest.expiresMs <= clock.now()) return
      if ((await memory.accept(latest, clock.now())) === 'newer') {
        log.info('heard of a newer release record', { appliance: latest.appliance, sequence: latest.sequence, peer })
      }
    } catch (error) {
      log.debug('a greeting brought a record that is of no use', { peer, error: asRowanError(error) })
    }
  }

  async #receiveLease(record: Uint8Array): Promise<void> {
    const { memory, directory } = this.#components
    const { release } = await openLease(record)
    if (memory.state(applianceOf(release)) !== undefined) await directory.takeLease(record)
  }
}
