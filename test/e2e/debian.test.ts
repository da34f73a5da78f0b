/**
 * The whole path with a real operating system: the Debian appliance, booted in QEMU without acceleration.
 *
 * Skipped where the appliance cannot be built (see test/tools/appliance.ts); boot-path.test.ts shows the same there with
 * an image that the test makes.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type DebianAppliance, debianAppliance, debianCanBeHad } from '../tools/appliance.ts'
import { boot, DISK_TROUBLE, type Guest } from '../tools/boot.ts'
import { hashFile } from '../tools/files.ts'
import { removeFolders } from '../tools/folders.ts'
import { Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'
import { waitUntil } from '../tools/wait.ts'

const BOOT_TIMEOUT_MS = 300_000
const MEMORY_MB = 1024

/** Appends numbered lines to a file, each made durable before it is acknowledged on the console. */
const JOURNAL_LOOP =
  'i=0; while :; do i=$((i+1)); echo $i | dd of=/root/journal oflag=append conv=notrunc,fsync status=none && echo ACK-$i; done\n'

function lastAcknowledged(guest: Guest): number {
  return Number([...guest.console.matchAll(/^ACK-(\d+)\r?$/gm)].at(-1)?.[1] ?? 0)
}

describe.skipIf(!debianCanBeHad())('the Debian appliance', () => {
  let appliance: DebianAppliance
  let hash: string
  let publisher: Peer
  let replica: Peer
  let volunteer: Peer
  let guest: Guest
  let uri: string
  let acknowledged = 0

  beforeAll(async () => {
    appliance = await debianAppliance()
    hash = await hashFile(appliance.v1)
    publisher = await Peer.start()
    replica = await Peer.start({ bootstrap: [publisher] })
  })

  afterAll(async () => {
    await endProcesses()
    await removeFolders()
  })

  test('is published, and a replica completes it', async () => {
    const published = await publisher.json(['publish', appliance.v1, 'grid@v1'])
    expect(published).toMatchObject({ version: 'v1', size: 1536 * 1024 * 1024, blocks: 24_576 })
    const answer = await replica.json(['replicate', `${publisher.publisher}/grid@v1`, '--wait'])
    expect(answer).toMatchObject({ image: published.image, complete: true })
  })

  test('boots from the swarm on a volunteer with nothing, while the publisher is killed', async () => {
    volunteer = await Peer.start({ bootstrap: [replica] })
    const attached = await volunteer.json(['attach', `${publisher.publisher}/grid`, '--as', 'worker'])
    uri = attached.uri
    guest = boot({ disk: uri, memoryMb: MEMORY_MB })
    await waitUntil(
      'the middle of the boot',
      async () => (await volunteer.json(['status'])).machines[0]!.fetched.blocks > 600,
      { timeoutMs: BOOT_TIMEOUT_MS, details: () => guest.process.tail(5) + volunteer.process.tail() }
    )
    expect(guest.console).not.toContain('APPLIANCE-READY')
    await publisher.kill()
    await guest.waitFor(/APPLIANCE-READY \S+ v1[\s\S]*APPLIANCE-WORK 2666646666700000/, BOOT_TIMEOUT_MS)
    expect(guest.console).not.toMatch(DISK_TROUBLE)
    const { fetched, local } = (await volunteer.json(['status'])).machines[0]!
    // Measured: 1,382 blocks of 11,500 with data.
    expect(fetched.blocks).toBeLessThan(local.of / 4)
  })

  test('only pauses while its daemon is killed in the middle of its writes and started again', async () => {
    await guest.login(60_000)
    guest.type(JOURNAL_LOOP)
    await waitUntil('some acknowledged writes', () => lastAcknowledged(guest) >= 20, {
      details: () => guest.process.tail()
    })
    await volunteer.kill()
    const atDeath = lastAcknowledged(guest)
    await volunteer.up()
    await waitUntil('writes after the restart', () => lastAcknowledged(guest) >= atDeath + 20, {
      details: () => guest.process.tail(5) + volunteer.process.tail()
    })
    // The plug is pulled while it still writes.
    await guest.powerOff()
    acknowledged = lastAcknowledged(guest)
    expect(guest.console).not.toMatch(DISK_TROUBLE)
  })

  test('boots with no peer alive once its image is complete, with every acknowledged write', async () => {
    await volunteer.json(['replicate', `${publisher.publisher}/grid@v1`, '--wait'])
    await replica.kill()
    await volunteer.stop()
    await volunteer.up()
    const again = boot({ disk: uri, memoryMb: MEMORY_MB })
    await again.waitFor(/APPLIANCE-WORK/, BOOT_TIMEOUT_MS)
    await again.login(60_000)
    again.type(`awk '$1 != NR { bad = 1 } END { print "JOURNAL", bad + 0, NR, "END" }' /root/journal\n`)
    const [, wrong, lines] = await again.waitFor(/^JOURNAL (\d+) (\d+) END/m, 60_000)
    expect(Number(wrong)).toBe(0)
    expect(Number(lines)).toBeGreaterThanOrEqual(acknowledged)
    expect(again.console).not.toMatch(DISK_TROUBLE)
    await again.powerOff()
  })

  test('is unchanged on the publisher', async () => {
    expect(await hashFile(appliance.v1)).toBe(hash)
  })
})
