/**
 * From a published image to a booted machine, with everything that may die on the way dying.
 *
 * With the tiny appliance, whose guest compares every sector that it reads and says which writes were acknowledged. The
 * same path with a real operating system is in debian.test.ts.
 */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, DISK_TROUBLE, type Guest } from '../tools/boot.ts'
import { hashFile } from '../tools/files.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { sectorNumbers, startUnflushedWriter } from '../tools/nbd.ts'
import { Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'
import { FOREVER, firstWriteSector, makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const SIZE_BYTES = 32 * 1024 * 1024
const WRITE_SPAN = 8192

/** The highest number whose write the guest was told is done; -1 for none. */
function lastAcknowledged(guest: Guest): number {
  const lines = [...guest.console.matchAll(/W ([0-9a-f]{8})\r\n/g)]
  return lines.length === 0 ? -1 : Number.parseInt(lines.at(-1)?.[1] ?? '', 16)
}

/** What each sector of the written range must hold when writes 0 to `last` were acknowledged. */
function expectWritten(numbers: number[], last: number): void {
  for (const [sector, number] of numbers.entries()) {
    // The newest acknowledged number of this sector, or the one that was under way when the guest was stopped.
    const newest = last - ((((last - sector) % WRITE_SPAN) + WRITE_SPAN) % WRITE_SPAN)
    if (newest < 0) continue
    const allowed = sector === (last + 1) % WRITE_SPAN ? [newest, last + 1] : [newest]
    expect(allowed, `sector ${sector} after ${last} acknowledged writes`).toContain(number)
  }
}

describe('from a published image to a booted machine', () => {
  let image: string
  let published: string
  let publisher: Peer
  let replica: Peer
  let volunteer: Peer
  let uri: string

  beforeAll(async () => {
    image = join(await temporaryFolder(), 'tiny.raw')
    await makeTinyAppliance(image, { sizeBytes: SIZE_BYTES, reads: 400, writes: FOREVER, writeSpan: WRITE_SPAN })
    published = await hashFile(image)
    publisher = await Peer.start()
    await publisher.json(['publish', image, 'grid@v1'])
    replica = await Peer.start({ bootstrap: [publisher] })
    // Slow enough for something to die in the middle of the boot: about four seconds for what it reads.
    volunteer = await Peer.start({ bootstrap: [replica], config: '[swarm]\nmaxDownload = "32Mbit"\n' })
  })

  afterAll(async () => {
    await endProcesses()
    await removeFolders()
  })

  test('a replica completes the image', async () => {
    const answer = await replica.json(['replicate', `${publisher.publisher}/grid`, '--wait'])
    expect(answer).toMatchObject({ version: 'v1', complete: true })
  })

  test('a volunteer with nothing boots while the publisher is killed', async () => {
    const attached = await volunteer.json(['attach', `${publisher.publisher}/grid`, '--as', 'm'])
    uri = attached.uri
    expect(attached).toMatchObject({ machine: 'm', version: 'v1', size: SIZE_BYTES })

    const guest = boot({ disk: uri })
    await waitUntil(
      'the first blocks',
      async () => (await volunteer.json(['status'])).machines[0]!.fetched.blocks > 10,
      { details: () => volunteer.process.tail() }
    )
    expect(guest.console).not.toContain('APPLIANCE-READY')
    await publisher.kill()
    await guest.waitFor(/APPLIANCE-READY 0 v1 boot 00000001/, 60_000)
    expect(guest.console).not.toMatch(DISK_TROUBLE)

    const { local, fetched } = (await volunteer.json(['status'])).machines[0]!
    expect(fetched.blocks).toBeLessThan(local.of)
    await guest.powerOff()
  })

  test('a guest only pauses while its daemon is killed and started again, and keeps what it was told is written', async () => {
    const guest = boot({ disk: uri })
    await waitUntil('some acknowledged writes', () => lastAcknowledged(guest) > 500, {
      details: () => guest.process.tail()
    })
    await volunteer.kill()
    const atDeath = lastAcknowledged(guest)
    await volunteer.up()
    await waitUntil('writes after the restart', () => lastAcknowledged(guest) > atDeath + 500, {
      details: () => guest.process.tail(5) + volunteer.process.tail()
    })
    // Once more, and now the guest is gone before the daemon comes back: only the layer can know.
    await volunteer.kill()
    await guest.powerOff()
    const last = lastAcknowledged(guest)
    expect(guest.console).not.toMatch(DISK_TROUBLE)
    await volunteer.up()
    expectWritten(await sectorNumbers(uri, firstWriteSector(SIZE_BYTES), WRITE_SPAN), last)
  })

  test('writes that were acknowledged and never flushed survive the death of the daemon', async () => {
    const attached = await volunteer.json(['attach', `${publisher.publisher}/grid`, '--as', 'unflushed'])
    const writer = startUnflushedWriter(attached.uri, firstWriteSector(SIZE_BYTES), WRITE_SPAN)
    const lines = () => writer.stdout.split('\n').slice(0, -1)
    await waitUntil('acknowledged writes', () => lines().length > 2000, { details: () => writer.tail() })
    await volunteer.kill()
    await writer.exited
    const last = Number(lines().at(-1))
    await volunteer.up()
    expectWritten(await sectorNumbers(attached.uri, firstWriteSector(SIZE_BYTES), WRITE_SPAN), last)
  })

  test('with its image complete it boots with no peer alive, and the writes are still there', async () => {
    const answer = await volunteer.json(['replicate', `${publisher.publisher}/grid`, '--wait'])
    expect(answer).toMatchObject({ version: 'v1', complete: true })
    await replica.kill()
    await volunteer.stop()
    await volunteer.up()
    const attached = await volunteer.json(['attach', `${publisher.publisher}/grid`, '--as', 'm'])
    const guest = boot({ disk: attached.uri })
    await guest.waitFor(/APPLIANCE-READY 0 v1 boot 00000003/, 60_000)
    await waitUntil('writes', () => lastAcknowledged(guest) > 100)
    expect(guest.console).not.toMatch(DISK_TROUBLE)
    await guest.powerOff()
  })

  test('the published file is what it was', async () => {
    expect(await hashFile(image)).toBe(published)
  })
})
