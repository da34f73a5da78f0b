/**
 * A bootable disk that a test makes in a moment: a boot sector, and data that knows its own place.
 *
 * Where the Debian appliance is not the point, this one is: it boots in under a second without loop devices or root.
 * Its boot sector, a real-mode program, does what an operating system does to a disk: it reads `reads` places all over
 * the image with the BIOS (INT 13h, AH=42h) and compares what it gets, counts its boots in a sector of its own, prints
 * `APPLIANCE-READY 0 VERSION boot N` on the serial port, writes `writes` sectors (each full of its number, AH=43h) and
 * says `W N` after each, and ends with `APPLIANCE-WORK N`. A read that fails or differs prints DISK-ERROR or
 * DISK-MISMATCH.
 *
 * Layout, in blocks of 64 KiB: the first half is read, the next quarter is data that only writes touch, the last
 * quarter is zero. Each sector of data begins with its number, so that the guest can tell a wrong one.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { Assembler } from './assembler.ts'

export const SECTOR_BYTES = 512
const BLOCK_BYTES = 64 * 1024
const SECTORS_PER_BLOCK = BLOCK_BYTES / SECTOR_BYTES
const READ_SECTORS = 8
/** Sector where the guest counts its boots. */
export const BOOT_COUNT_SECTOR = 1
/** `writes` for a guest that never stops writing. */
export const FOREVER = 0xffffffff

export interface TinyAppliance {
  sizeBytes: number
  /** Printed by the guest: v1, v2, … */
  version: string
  /** Places that the guest reads, 4 KiB each, spread evenly over the first half. */
  reads: number
  /** Sectors that the guest writes, or FOREVER. */
  writes: number
  /** Writes go round in this many sectors, from `firstWriteSector` on. */
  writeSpan: number
  /** Data blocks (spread over the first half) that differ from the image with 0 changed ones. */
  changedBlocks: number
  /** Whether the guest switches itself off at the end; it waits for ever otherwise. */
  powerOff: boolean
  /** Images with different seeds share no block of data. */
  seed: number
}

const DEFAULTS: TinyAppliance = {
  sizeBytes: 16 * 1024 * 1024,
  version: 'v1',
  reads: 64,
  writes: 32,
  writeSpan: 4096,
  changedBlocks: 0,
  powerOff: false,
  seed: 1
}

/** The first sector that the guest writes to: where the second half begins. */
export function firstWriteSector(sizeBytes: number): number {
  return Math.floor(sizeBytes / 2 / BLOCK_BYTES) * SECTORS_PER_BLOCK
}

/** Writes the image to `path`, sparse, and says how many of its blocks hold data. */
export async function makeTinyAppliance(
  path: string,
  wanted: Partial<TinyAppliance> = {}
): Promise<TinyAppliance & { dataBlocks: number; blocks: number }> {
  const tiny = { ...DEFAULTS, ...wanted }
  const blocks = tiny.sizeBytes / BLOCK_BYTES
  const readBlocks = Math.floor(blocks / 2)
  const dataBlocks = Math.floor((blocks * 3) / 4)
  if (!Number.isInteger(blocks) || blocks < 8 || tiny.reads > (readBlocks - 1) * (SECTORS_PER_BLOCK / READ_SECTORS)) {
    throw new Error(`no such tiny appliance: ${JSON.stringify(tiny)}`)
  }
  const changed = new Set<number>()
  for (let i = 0; i < tiny.changedBlocks; i++) {
    changed.add(1 + Math.floor((i * (readBlocks - 1)) / tiny.changedBlocks))
  }
  const file = await open(path, 'w')
  try {
    await file.truncate(tiny.sizeBytes)
    for (let block = 1; block < dataBlocks; block++) {
      await writeWhole(file, dataBlock(block, changed.has(block) ? ~tiny.seed : tiny.seed), block * BLOCK_BYTES)
    }
    await writeWhole(file, bootSector(tiny), 0)
  } finally {
    await file.close()
  }
  return { ...tiny, blocks, dataBlocks }
}

async function writeWhole(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  await file.write(bytes, 0, bytes.length, position)
}

/** Sectors that begin with their number; the first half of each is noise (xorshift32), the rest compresses. */
function dataBlock(block: number, seed: number): Uint8Array {
  const words = new Uint32Array(BLOCK_BYTES / 4)
  let noise = (Math.imul(block + 1, 0x9e3779b1) ^ Math.imul(seed, 0x85ebca6b)) >>> 0 || 1
  for (let sector = 0; sector < SECTORS_PER_BLOCK; sector++) {
    const at = sector * (SECTOR_BYTES / 4)
    for (let word = 1; word < 64; word++) {
      noise ^= noise << 13
      noise ^= noise >>> 17
      noise ^= noise << 5
      words[at + word] = noise
    }
    words[at] = block * SECTORS_PER_BLOCK + sector
  }
  return new Uint8Array(words.buffer)
}

// Where the boot sector keeps its numbers (offsets in the sector; the BIOS loads it at 0x7c00).
const LOADED_AT = 0x7c00
const BUFFER = 0x8000
const AT = {
  readsLeft: 0x180,
  stride: 0x184,
  writeStart: 0x188,
  writes: 0x18c,
  writeSpan: 0x190,
  packet: 0x1a0,
  packetCount: 0x1a2,
  packetSector: 0x1a8,
  drive: 0x1b0,
  powerOff: 0x1b1
} as const

function bootSector(tiny: TinyAppliance): Uint8Array {
  const sector = new Uint8Array(SECTOR_BYTES)
  const code = program(tiny.version)
  if (code.length > AT.readsLeft) throw new Error(`the boot program has ${code.length} bytes, ${AT.readsLeft} fit`)
  sector.set(code)
  const view = new DataView(sector.buffer)
  const readable = firstWriteSector(tiny.sizeBytes) - SECTORS_PER_BLOCK
  const stride = tiny.reads === 0 ? 0 : Math.floor(readable / tiny.reads / READ_SECTORS) * READ_SECTORS
  view.setUint32(AT.readsLeft, tiny.reads, true)
  view.setUint32(AT.stride, stride, true)
  view.setUint32(AT.writeStart, firstWriteSector(tiny.sizeBytes), true)
  view.setUint32(AT.writes, tiny.writes, true)
  view.setUint32(AT.writeSpan, tiny.writeSpan, true)
  // INT 13h extensions' disk address packet: size, count, offset, segment, 64-bit sector
  view.setUint16(AT.packet, 16, true)
  view.setUint16(AT.packetCount, READ_SECTORS, true)
  view.setUint16(AT.packet + 4, BUFFER, true)
  view.setUint32(AT.packetSector, SECTORS_PER_BLOCK, true)
  view.setUint8(AT.powerOff, tiny.powerOff ? 1 : 0)
  view.setUint16(510, 0xaa55, true)
  return sector
}

/** The boot program, 8086 code with 32-bit registers. */
function program(version: string): Uint8Array {
  const asm = new Assembler(LOADED_AT)
  const at = (name: keyof typeof AT) => [(LOADED_AT + AT[name]) & 0xff, (LOADED_AT + AT[name]) >> 8]
  const buffer = [BUFFER & 0xff, BUFFER >> 8]

  asm.bytes(0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0) // cli; ax = ds = es = ss = 0
  asm.bytes(0xbc, 0x00, 0x7c, 0xfb, 0x88, 0x16, ...at('drive')) // sp = 0x7c00; sti; drive = dl

  asm.label('read') // every place must hold its own number
  asm.bytes(0x66, 0x83, 0x3e, ...at('readsLeft'), 0x00).jump(0x74, 'count') // none left?
  asm.bytes(0xb4, 0x42).call('disk')
  asm.bytes(0x66, 0xa1, ...buffer, 0x66, 0x3b, 0x06, ...at('packetSector')).near([0x0f, 0x85], 'differs')
  asm.bytes(0x66, 0xa1, ...at('stride'), 0x66, 0x01, 0x06, ...at('packetSector')) // on by a stride
  asm.bytes(0x66, 0xff, 0x0e, ...at('readsLeft')).jump(0xeb, 'read')

  asm.label('count') // the boot counter, one sector from here on
  asm.bytes(0xc7, 0x06, ...at('packetCount'), 0x01, 0x00)
  asm.bytes(0x66, 0xc7, 0x06, ...at('packetSector'), BOOT_COUNT_SECTOR, 0, 0, 0)
  asm.bytes(0xb4, 0x42).call('disk')
  asm.bytes(0x66, 0xff, 0x06, ...buffer, 0xb8, 0x00, 0x43).call('disk')
  asm
    .address(0xbe, 'ready')
    .call('print')
    .bytes(0x66, 0xa1, ...buffer)
    .call('hex')
  asm.bytes(0x66, 0x31, 0xdb) // n = ebx = 0

  asm.label('write')
  asm.bytes(0x66, 0x3b, 0x1e, ...at('writes')).jump(0x74, 'done')
  asm.bytes(0x66, 0x89, 0xd8, 0x66, 0x31, 0xd2, 0x66, 0xf7, 0x36, ...at('writeSpan')) // edx = n mod span
  asm.bytes(0x66, 0x03, 0x16, ...at('writeStart'), 0x66, 0x89, 0x16, ...at('packetSector'))
  asm.bytes(0xbf, ...buffer, 0x66, 0x89, 0xd8, 0xb9, 0x80, 0x00, 0xf3, 0x66, 0xab) // 128 times n
  asm.bytes(0xb8, 0x00, 0x43).call('disk')
  asm.address(0xbe, 'wrote').call('print').bytes(0x66, 0x89, 0xd8).call('hex')
  asm.bytes(0x66, 0x43).jump(0xeb, 'write')

  asm.label('done')
  asm.address(0xbe, 'work').call('print').bytes(0x66, 0x89, 0xd8).call('hex')
  asm.bytes(0x80, 0x3e, ...at('powerOff'), 0x00).jump(0x74, 'halt')
  asm.bytes(0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef) // ACPI's sleep register of QEMU's PC: off
  asm.label('halt').bytes(0xf4).jump(0xeb, 'halt')

  asm.label('disk') // ah = what to do; the packet says where
  asm
    .bytes(0x8a, 0x16, ...at('drive'), 0xbe, ...at('packet'), 0xcd, 0x13)
    .jump(0x72, 'fails')
    .bytes(0xc3)
  asm.label('fails')
  asm.address(0xbe, 'error').jump(0xeb, 'complain')
  asm.label('differs')
  asm.address(0xbe, 'mismatch')
  asm.label('complain').call('print')
  asm
    .bytes(0x66, 0xa1, ...at('packetSector'))
    .call('hex')
    .jump(0xeb, 'halt')

  asm.label('print') // the text at si, up to a zero
  asm.bytes(0xac, 0x84, 0xc0).jump(0x74, 'printed').call('put').jump(0xeb, 'print')
  asm.label('printed').bytes(0xc3)
  asm.label('put') // al, once the serial port takes it
  asm.bytes(0x50, 0xba, 0xfd, 0x03).label('busy').bytes(0xec, 0xa8, 0x20).jump(0x74, 'busy')
  asm.bytes(0x58, 0xba, 0xf8, 0x03, 0xee, 0xc3)
  asm.label('hex') // eax as eight digits and a line's end
  asm.bytes(0xb9, 0x08, 0x00).label('digit').bytes(0x66, 0xc1, 0xc0, 0x04, 0x66, 0x50, 0x24, 0x0f, 0x04, 0x30)
  asm.bytes(0x3c, 0x3a, 0x72, 0x02, 0x04, 0x27).call('put').bytes(0x66, 0x58).jump(0xe2, 'digit')
  asm.address(0xbe, 'newline').jump(0xeb, 'print')

  asm.label('newline').text('\r\n')
  asm.label('ready').text(`APPLIANCE-READY 0 ${version} boot `)
  asm.label('wrote').text('W ')
  asm.label('work').text('APPLIANCE-WORK ')
  asm.label('error').text('DISK-ERROR ')
  asm.label('mismatch').text('DISK-MISMATCH ')
  return asm.finish()
}
